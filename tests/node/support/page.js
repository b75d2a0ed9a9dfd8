/** A page with a window and a document, in front or not; the part of a browser that the library looks at. */

export class FakePage {
  /** @param {import("node:test").TestContext} test the page is gone after it */
  constructor(test, {focused = true, visible = true, url = "http://presence.example/"} = {}) {
    this.focused = focused;
    this.window = new EventTarget();
    this.document = new EventTarget();
    Object.assign(this.document, {
      visibilityState: visible ? "visible" : "hidden",
      hasFocus: () => this.focused,
      baseURI: url,
    });
    this.window.document = this.document;
    globalThis.window = this.window;
    globalThis.document = this.document;
    test.after(() => {
      delete globalThis.window;
      delete globalThis.document;
    });
  }

  /** The user does something: `click`, `keydown`, ... */
  act(type) {
    this.window.dispatchEvent(new Event(type));
  }

  focus() {
    this.focused = true;
    this.window.dispatchEvent(new Event("focus"));
  }

  blur() {
    this.focused = false;
    this.window.dispatchEvent(new Event("blur"));
  }

  show(visible) {
    this.document.visibilityState = visible ? "visible" : "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  /** The page goes away, or comes back from the back/forward cache. */
  turn(type, persisted) {
    this.window.dispatchEvent(Object.assign(new Event(type), {persisted}));
  }
}
