// Holds manifests to the schemas of their kinds. Reads {manifests: [...], packages: {group: name}} from
// stdin, writes a list of lists: what is wrong with each of them.
import { readFileSync } from "node:fs";

// What a schema knows it asks for; a field that it never asks for is one that it does not know.
function watched(value, path, unasked) {
  if (typeof value !== "object" || value === null) return value;
  const inner = {};
  for (const [key, item] of Object.entries(value)) {
    inner[key] = watched(item, `${path}/${key}`, unasked);
    if (!Array.isArray(value)) unasked.add(`${path}/${key}`);
  }
  return new Proxy(Array.isArray(value) ? Object.values(inner) : inner, {
    get(target, key) {
      if (typeof key === "string") unasked.delete(`${path}/${key}`);
      return target[key];
    },
  });
}

async function mistakes(manifest, packages) {
  const group = manifest.apiVersion.split("/")[0];
  let Model;
  try {
    const path = `${packages[group]}/${manifest.apiVersion}/${manifest.kind}`;
    ({ [manifest.kind]: Model } = await import(path));
  } catch (error) {
    return [`there is no schema of ${manifest.apiVersion} ${manifest.kind}`];
  }
  const model = new Model(manifest);
  const unasked = new Set();
  for (const name of ["metadata", "spec"]) model[name] = watched(manifest[name], `/${name}`, unasked);
  try {
    model.validate();
  } catch (error) {
    return [error.message];
  }
  return [...unasked].map((path) => `${path}: there is no such field`);
}

const { manifests, packages } = JSON.parse(readFileSync(0, "utf8"));
const found = [];
for (const manifest of manifests) found.push(await mistakes(manifest, packages));
console.log(JSON.stringify(found));
