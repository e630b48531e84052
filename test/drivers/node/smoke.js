// What the Node.js driver programs share: arguments, output, and the running of
// scenarios. See test/drivers/python/smoke.py for what a program prints.

import { parseArgs } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'

export const { values: options } = parseArgs({
  options: {
    driver: { type: 'string' },
    dsn: { type: 'string' },
    schema: { type: 'string' },
    tasks: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '1' },
    statements: { type: 'string', default: '1000' },
    limit: { type: 'string', default: '60' },
    only: { type: 'string', multiple: true },
  },
})
export const { dsn, schema } = options
export const tasks = Number(options.tasks)
export const statements = Number(options.statements)

let backends = new Map()

// saw notes the backend that answered this client.
export function saw(client, pid) {
  if (!backends.has(client)) backends.set(client, new Set())
  backends.get(client).add(pid)
}

export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b)

// raises sends a notice and a warning that carry a number.
export const raises = (turn) => `DO $$ BEGIN RAISE NOTICE 'first ${turn}';
  RAISE WARNING 'second ${turn}' USING DETAIL = 'detail', HINT = 'hint', ERRCODE = '01P99'; END $$`

// The settings of connection number n of the settings scenario.
export const zones = ['Asia/Tokyo', 'Europe/Berlin', 'America/New_York']
export const styles = ['iso_8601', 'sql_standard', 'postgres']

// crowd runs the tasks of the concurrent scenario. Each calls what it is given
// turn by turn, for some time, and complains by check.
export async function crowd(task) {
  const deadline = Date.now() + Number(options.seconds) * 1000
  const wrong = []
  await Promise.all(
    Array.from({ length: tasks }, async (_, number) => {
      const check = (what, got, want) => {
        if (!same(got, want)) wrong.push([what, number, got, want])
      }
      const { step, end } = await task(number, check)
      for (let turn = 1; turn <= 30 || Date.now() < deadline; turn++) await step((turn + number) % 6, turn)
      await end()
    }),
  )
  return { tasks, wrong: wrong.slice(0, 10) }
}

export async function run(scenarios) {
  for (const [scenario, body] of Object.entries(scenarios)) {
    if (options.only && !options.only.includes(scenario)) continue
    backends = new Map()
    const limit = sleep(Number(options.limit) * 1000, null, { ref: false }).then(() => {
      throw new Error('hangs')
    })
    const result = await Promise.race([body(), limit]).catch((error) => {
      console.error(error)
      return { exception: error.name, message: error.message }
    })
    const moved = [...backends.values()].filter((pids) => pids.size > 1).length
    const line = JSON.stringify({ scenario, result, clients: backends.size, moved })
    await new Promise((written) => process.stdout.write(line + '\n', written))
  }
  process.exit(0) // connections that a failed scenario left open would keep the program alive
}
