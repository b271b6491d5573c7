/** Entry of `marea-hls.js`, which `marea.js` loads when it is needed: the pinned hls.js, and the figures over the player. */

import Hls from "hls.js";
import { publish } from "./bundle.js";
import { showOverlay } from "./overlay.js";

publish({ Hls, showOverlay });
