// The source of the gallery: a server's JSON.

import { queryOf } from "./viewer.js";

async function asked(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  let content;
  try {
    content = await answer.json();
  } catch {
    throw new Error(`the server answered ${answer.status}`);
  }
  if (!answer.ok) throw new Error(content.error ?? `the server answered ${answer.status}`);
  return content;
}

/** Return the source; beside what every source has, `progress()`. */
export function remoteSource() {
  return {
    overview: () => asked("/api/overview"),
    images: (state) => {
      const query = queryOf(state);
      query.set("start", state.start);
      query.set("count", state.count);
      query.set("of", state.of);
      return asked(`/api/images?${query}`);
    },
    image: (id) => asked(`/api/images/${encodeURIComponent(id)}`),
    progress: () => asked("/api/progress"),
  };
}
