"use strict";
// Shows, of the examples behind a form, those that fit what its fields say, in the order asked for.
for (const form of document.querySelectorAll("form[data-filters]")) {
  const list = form.nextElementSibling;
  const examples = [...list.children];
  const words = new Map(examples.map((example) => [example, example.textContent.toLowerCase()]));
  const difference = (example) => Number(example.dataset.difference);
  const orders = {
    given: (a, b) => examples.indexOf(a) - examples.indexOf(b),
    high: (a, b) => difference(b) - difference(a),
    low: (a, b) => difference(a) - difference(b),
    size: (a, b) => Math.abs(difference(b)) - Math.abs(difference(a)),
  };
  const fits = (example) => {
    const { user, outcome, group, text } = form.elements;
    return (
      (!user.value || example.dataset.user === user.value) &&
      (!outcome || !outcome.value || example.dataset.outcome === outcome.value) &&
      (!group.value || example.dataset.groups.split(",").includes(group.value)) &&
      words.get(example).includes(text.value.trim().toLowerCase())
    );
  };
  const update = () => {
    for (const example of examples) example.hidden = !fits(example);
    list.append(...examples.toSorted(orders[form.elements.order.value]));
    const shown = examples.filter((example) => !example.hidden).length;
    form.querySelector("output").value = `${shown} of ${examples.length} examples`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}
