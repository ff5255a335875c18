// Finds our runner where the network adapter suite asks for Vitest.
const runner = new URL("runner.js", import.meta.url).href;

export const resolve = (name, context, next) => next(name === "vitest" ? runner : name, context);
