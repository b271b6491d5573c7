// What the tests find on a viewer's page: written by `recorder.mjs` and `page-server.mjs`, and by marea.js itself.

interface Window {
  __largest: Record<string, number>;
  __parsed: number[];
  __recorder: any;
  __players: any[];
  __timers: Map<number, { kind: string; ms: number; stack: string }>;
  __state: string;
  __sessions: any[];
  Marea: { sessions: Iterable<any>; setConsent(yes: boolean): void; attach(player: unknown): any; version: string };
}
