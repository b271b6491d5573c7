/** Entry of `marea-hls.js`: the pinned hls.js for plain `<video>` elements, loaded by `marea.js` when it is needed. */

import Hls from "hls.js";
import { BUNDLED_HLS } from "./bundle.js";

(globalThis as unknown as Record<symbol, typeof Hls>)[BUNDLED_HLS] = Hls;
