'use strict';

const assert = require('node:assert');
const test = require('node:test');
const { slug } = require('./slug');

test('words are joined by dashes', () => assert.strictEqual(slug('Hello World'), 'hello-world'));
test('no dash stands at an end', () => assert.strictEqual(slug('  Hello, World! '), 'hello-world'));
