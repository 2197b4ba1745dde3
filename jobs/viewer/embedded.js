// The source of a page that is one file: its images are those of the page's plain list, its values JSON beside it.

function compared(value, operator, wanted) {
  if (value === null || value === undefined) return operator === "ne";
  if (operator === "contains") return String(value).toLowerCase().includes(wanted.toLowerCase());
  const [one, other] = typeof value === "number" ? [value, Number(wanted)] : [String(value), wanted];
  const tests = { eq: one === other, ne: one !== other, lt: one < other, le: one <= other, gt: one > other, ge: one >= other };
  return tests[operator] ?? false;
}

function byColumn(name, descending) {
  return (a, b) => {
    const [one, other] = [a.values[name] ?? null, b.values[name] ?? null];
    if (one === null || other === null) return (one === null) - (other === null); // images without a value come last
    const order = typeof one === "number" ? one - other : String(one).localeCompare(String(other));
    return descending ? -order : order;
  };
}

/** Return the source of a page: `data` is its JSON, `uriOf(id)` the address of an image of the page. */
export function embeddedSource(data, uriOf) {
  const withUris = (item) => ({
    ...item,
    pictures: item.pictures.map((picture) => ({ ...picture, thumb: picture.thumb && uriOf(picture.thumb), full: null })),
  });
  const kinds = { images: data.items.map(withUris), errors: data.errors.map(withUris) };

  return {
    async overview() {
      return data.overview;
    },
    async images({ start, count, sort, descending, search, where, of }) {
      const text = search.toLowerCase();
      let items = kinds[of].filter((item) => !text || item.key.toLowerCase().includes(text));
      items = items.filter((item) => where.every((one) => compared(item.values[one.name], one.operator, one.value)));
      if (sort) items.sort(byColumn(sort, descending));
      return { total: items.length, exact: true, start, items: items.slice(start, start + count) };
    },
    async image(id) {
      return kinds.images.find((item) => item.id === id) ?? kinds.errors.find((item) => item.id === id);
    },
  };
}
