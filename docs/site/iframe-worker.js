// Workers for pages opened from a folder, where browsers refuse to start one: the script runs in a
// hidden frame instead. Search asks for its worker by the name of the class below.
"use strict";

class FolderWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const inside = this.frame.contentWindow;
    inside.document.open();
    inside.document.write("<!doctype html><title>worker</title><body>");
    inside.document.close();
    inside.postMessage = (data) => {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    };
    inside.importScripts = (...urls) =>
      urls.reduce((loaded, next) => loaded.then(() => load(inside, next)), Promise.resolve());
    this.started = load(inside, url);
  }

  postMessage(data) {
    const copy = structuredClone(data);
    this.started.then(() => {
      const inside = this.frame.contentWindow;
      inside.dispatchEvent(new inside.MessageEvent("message", { data: copy }));
    });
  }

  terminate() {
    this.frame.remove();
  }
}

function load(inside, url) {
  return new Promise((resolve, reject) => {
    const script = inside.document.createElement("script");
    script.src = url;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error(`${url} cannot be loaded`));
    inside.document.body.append(script);
  });
}

window.IFrameWorker = FolderWorker;
if (location.protocol === "file:") window.Worker = FolderWorker;
