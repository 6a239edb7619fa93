import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

// Stays out of the bundle: codecs (8 MB of WebAssembly), for the mesh expands compressed pixels
// itself; and vtk.js's XML writer of meshes, which wants modules of Node.
const leftOut = fileURLToPath(new URL("src/viewer/left_out.ts", import.meta.url));

/** The page's policy takes no style attributes, but styles that a script sets one by one. */
const noStyleAttributes: Plugin = {
  name: "no-style-attributes",
  transform: {
    filter: { id: /drawingSvg\/drawTextBox\.js$/ },
    handler(code) {
      const attribute = "textElement.setAttribute('style', combinedStyle)";
      if (!code.includes(attribute)) this.error("drawTextBox.js is not as it was");
      return code.replace(attribute, "textElement.style.cssText = combinedStyle");
    },
  },
};

export default defineConfig({
  plugins: [noStyleAttributes],
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
