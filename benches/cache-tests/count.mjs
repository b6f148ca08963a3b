// Counts the results of cache-tests by kind, and lists the required tests that did not pass.
// Usage: node count.mjs CLONE RESULTS.json
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const [clone, file] = process.argv.slice(2)
const load = path => import(join(resolve(clone), path))
const { default: suites } = await load('tests/index.mjs')
const { determineTestResult } = await load('test-engine/lib/results.mjs')
const results = JSON.parse(readFileSync(file))

const counts = new Map()
const missed = []
for (const { name, tests } of suites) {
  for (const { id, kind = 'required' } of tests) {
    const [, , verdict] = determineTestResult(suites, id, results, false)
    const passed = ['pass', 'yes'].includes(verdict)
    const count = counts.get(kind) ?? { passed: 0, all: 0 }
    count.all += 1
    count.passed += passed ? 1 : 0
    counts.set(kind, count)
    if (kind === 'required' && !passed) missed.push(`${name}: ${id} (${verdict})`)
  }
}
for (const [kind, { passed, all }] of counts) console.log(`${kind}: ${passed} of ${all}`)
console.log(missed.map(line => `  ${line}`).join('\n'))
