// A reporter for mocha: one line per test, `ok NAME`, `failed NAME: why`, `skipped NAME`.

'use strict'

const { constants } = require(require.resolve('mocha/lib/runner', { paths: [process.cwd()] }))

function say(how, name, why) {
  const words = why ? `: ${String(why).replace(/\s*\n\s*/g, ' | ').slice(0, 400)}` : ''
  // A colon and a space end a name.
  process.stdout.write(`${how} ${name.replace(/: /g, ' ')}${words}\n`)
}

module.exports = class Lines {
  constructor(runner) {
    const suite = process.env.SUITE_NAME
    const name = (test) => `${suite} ${test.fullTitle()}`
    runner.on(constants.EVENT_TEST_PASS, (test) => say('ok', name(test)))
    runner.on(constants.EVENT_TEST_PENDING, (test) => say('skipped', name(test)))
    runner.on(constants.EVENT_TEST_FAIL, (test, error) => say('failed', name(test), error && error.message))
  }
}
