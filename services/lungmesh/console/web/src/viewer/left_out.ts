// Stands for libraries that the bundle leaves out (see vite.config.ts).
function leftOut(): never {
  throw new Error("this library was left out of the bundle");
}

export default leftOut;
export const create = leftOut;
export const decompressSync = leftOut;
