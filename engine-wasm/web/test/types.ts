/** Fails to compile where the package's declarations and the code differ. */

import type * as declared from "../npm/marea.js";
import type * as actual from "../src/marea.js";

/** Assignable both ways. */
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;

export const checks: [
  Same<declared.MareaOptions, actual.MareaOptions>,
  Same<declared.Reason, actual.Reason>,
  Same<declared.SessionState, actual.SessionState>,
  Same<declared.SessionStats, actual.SessionStats>,
  Same<declared.SessionEvents, actual.SessionEvents>,
  // The events' types are declared only: at run time they are an `EventTarget`'s.
  actual.Session extends Omit<declared.Session, "addEventListener"> ? true : never,
  Same<Parameters<typeof declared.attach>, Parameters<typeof actual.attach>>,
  Same<typeof declared.setConsent, typeof actual.setConsent>,
] = [true, true, true, true, true, true, true, true];
