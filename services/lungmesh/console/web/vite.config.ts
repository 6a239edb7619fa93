import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// Stays out of the bundle: codecs (8 MB of WebAssembly), for the mesh expands compressed pixels
// itself; and vtk.js's XML writer of meshes, which wants modules of Node.
const leftOut = fileURLToPath(new URL("src/viewer/left_out.ts", import.meta.url));

export default defineConfig({
  base: "/",
  resolve: { alias: [{ find: /^(@cornerstonejs\/codec-[^/]+(\/.*)?|xmlbuilder2)$/, replacement: leftOut }] },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  worker: { format: "es" },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 4000,
    license: { fileName: "assets/licenses.txt" },
  },
});
