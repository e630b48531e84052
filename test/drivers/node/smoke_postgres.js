// postgres.js: the scenarios of test/drivers/scenarios_test.go.
//
// It pipelines by itself: what a program asks for at once goes out at once, up
// to a hundred queries, and a transaction's BEGIN goes out with its first
// query. A pooler that lets go of the server at the first ReadyForQuery leaves
// such queries without an answer, or gives them another's.

import { createHash } from 'node:crypto'
import { pipeline as stream } from 'node:stream/promises'
import { Readable, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import { crowd, dsn, raises, run, same, saw, schema, statements, styles, zones } from './smoke.js'

// one has a single connection, so that what is asked of it is asked of one session.
const one = (options = {}) => postgres(dsn, { max: 1, onnotice: () => {}, ...options })

const rows = async (sql, text, values = []) => [...(await sql.unsafe(text, values, { prepare: true }).values())]
const value = async (sql, text, values) => (await rows(sql, text, values))[0][0]

const outcome = (promise) => promise.then((answer) => answer, failure)

function failure(error) {
  return error instanceof postgres.PostgresError
    ? { sqlstate: error.code, message: error.message, severity: error.severity }
    : { error: error.code ?? error.message }
}

async function connect() {
  const reported = {}
  const ours = one({
    connection: {
      application_name: 'smoke postgres.js', statement_timeout: 12345, TimeZone: 'Asia/Tokyo', DateStyle: 'German',
      search_path: schema,
    },
    onparameter: (name, value) => (reported[name] = value),
  })
  const plain = one()
  const names = ['application_name', 'statement_timeout', 'TimeZone', 'DateStyle', 'search_path']
  const result = { shown: [] }
  for (let turn = 0; turn < 4; turn++) {
    for (const sql of [ours, plain]) {
      const shown = []
      for (const name of names) shown.push(await value(sql, `SHOW ${name}`))
      result.shown.push(shown)
    }
  }
  result.reported = Object.entries(reported).sort()
  for (const sql of [ours, plain]) await sql.end()
  const wrong = {
    'wrong password': { password: 'not the password' },
    'unknown user': { user: 'nobody_of_that_name' },
    'unknown database': { database: 'no_database_of_that_name' },
    'bad setting': { connection: { TimeZone: 'Nowhere/Land' } },
  }
  for (const [what, options] of Object.entries(wrong)) {
    const sql = one(options)
    const refused = await outcome(sql`SELECT 1`)
    result[what] = [refused.sqlstate, refused.severity]
    await sql.end()
  }
  return result
}

async function types() {
  const sql = one()
  const moment = new Date(Date.UTC(2024, 1, 29, 23, 59, 59, 123))
  const sent = [
    ['int2', -32768], ['int4', 2147483647], ['int8', '-9223372036854775808'],
    ['numeric', '123456789012345678901234567890.123456789'],
    ['float4', 1.5], ['float8', 'Infinity'], ['float8', 1e-300], ['bool', true],
    ['text', "Größe 舵 ⚓ O'ring \\"], ['text', 'x'.repeat(100000)], ['text', ''], ['text', null],
    ['bytea', Buffer.from(Array.from({ length: 10240 }, (_, i) => i % 256))],
    ['uuid', '00000000-0000-0000-0000-000000000007'], ['timestamptz', moment], ['interval', '3 days 00:00:04'],
    ['json', { a: [1, null] }], ['jsonb', { a: [1, null] }], ['int4[]', [[1, 2], [3, 4]]],
    ['text[]', ['a', null, 'q"']], ['int4range', '[1,10)'], ['point', '(1,2)'],
    [`${schema}.mood`, 'stormy'], [`${schema}.position`, '(54.3,10.1)'], [`${schema}.mood[]`, '{calm,stormy}'],
  ]
  const result = []
  for (const [type, given] of sent) {
    const back = JSON.stringify(await value(sql, `SELECT $1::${type}`, [given])) ?? 'undefined'
    result.push([type, back.length, back.slice(0, 200)])
  }
  result.push(await outcome(sql`SELECT ${'not a number'}::int4`))
  result.push((await sql`SELECT 1 AS a, NULL::int AS b, 'x'::varchar(3) AS c`).columns.map((c) => [c.name, c.type]))
  const inserted = await sql`INSERT INTO ${sql(schema)}.items ${sql([{ id: 100, note: 'a' }, { id: 101, note: 'b' }])} RETURNING *`
  result.push(inserted, await sql`DELETE FROM ${sql(schema)}.items WHERE id IN ${sql([100, 101])} RETURNING id`)
  result.push(await sql`DESCRIBE`.describe().catch(failure), (await sql`SELECT ${1}::int8 AS n`.describe()).types)
  await sql.end()
  return result
}

async function prepared() {
  const sides = { left: one(), right: one() }
  const wrong = []
  let answers = 0
  for (let turn = 0; turn < 2; turn++) {
    for (let i = 0; i < statements; i++) {
      // Clients that take turns in step would meet the same server each time.
      if (i % 7 === 0) await sides.left`SELECT 1`
      for (const [side, sql] of Object.entries(sides)) {
        const ask = (sql) => rows(sql, `SELECT $1::int + ${i}, '${side}${i}', pg_backend_pid()`, [turn])
        const [row] = turn ? await sql.begin(async (sql) => (await ask(sql), ask(sql))) : await ask(sql)
        saw(side, row[2])
        answers++
        if (row[0] !== turn + i || row[1] !== side + i) wrong.push([side, i, turn, row])
      }
    }
  }
  const result = { answers, wrong: wrong.slice(0, 5) }
  result.bad = [await outcome(sides.left`SELECT nothing_like_this`), await sides.left`SELECT 5 AS n`]
  // What an older pooler asked for still works.
  const never = one({ prepare: false })
  result.never = []
  for (let i = 0; i < 20; i++) result.never.push((await never`SELECT ${i}::int AS n`)[0].n)
  for (const sql of [never, ...Object.values(sides)]) await sql.end()
  return result
}

async function ddl() {
  const [changes, reads, fresh] = [one(), one(), one()]
  const query = `SELECT * FROM ${schema}.changed`
  await changes.unsafe(`CREATE TABLE ${schema}.changed (a int); INSERT INTO ${schema}.changed VALUES (1)`)
  const result = { before: [await rows(reads, query), await rows(reads, query)] }
  await changes.unsafe(`ALTER TABLE ${schema}.changed ADD COLUMN b int DEFAULT 2`)
  // PostgreSQL refuses the old plan, and postgres.js prepares anew when it knows the error by its routine.
  result.after = [await outcome(rows(reads, query)), await outcome(rows(reads, query))]
  result.fresh = await outcome(fresh.begin((sql) => rows(sql, query)))
  await changes.unsafe(`ALTER TABLE ${schema}.changed ALTER a TYPE text`)
  result['inside'] = await outcome(reads.begin((sql) => rows(sql, query)))
  await changes.unsafe(`DROP TABLE ${schema}.changed`)
  result.dropped = await outcome(rows(fresh, query))
  for (const sql of [changes, reads, fresh]) await sql.end()
  return result
}

async function transaction() {
  const [first, other] = [one(), one()]
  const items = first(`${schema}.items`)
  const all = (sql) => sql`SELECT * FROM ${items} ORDER BY id`
  const count = async (sql) => (await sql`SELECT count(*)::int AS n FROM ${items}`)[0].n
  const result = {}
  await first.begin(async (sql) => {
    await sql`INSERT INTO ${items} VALUES (1, 'one')`
    result.duplicate = await outcome(sql.savepoint((sql) => sql`INSERT INTO ${items} VALUES (2, 'one')`))
    await sql.savepoint('kept', (sql) => sql`INSERT INTO ${items} VALUES (3, 'three', 1)`)
    result.seen = [await count(sql), await count(other)]
  })
  result['after commit'] = await all(other)
  result.division = await outcome(
    first.begin(async (sql) => {
      await sql`INSERT INTO ${items} VALUES (4, 'four')`
      await sql`SELECT 1 / 0`
    }),
  )
  result['after rollback'] = await count(other)
  result['deferred constraint'] = await outcome(first.begin((sql) => sql`INSERT INTO ${items} VALUES (5, 'five', 999)`))
  result.isolation = await first.begin('ISOLATION LEVEL SERIALIZABLE READ ONLY', async (sql) => [
    await sql`SHOW transaction_isolation`,
  ])
  result['read only'] = await outcome(first.begin('READ ONLY', (sql) => sql`INSERT INTO ${items} VALUES (6, 'six')`))
  result['isolation after'] = await first`SHOW transaction_isolation`
  result['many statements'] = await first.unsafe('BEGIN; SELECT 1 AS a; SELECT 2 AS b; COMMIT')
  result['failing among many'] = await outcome(first.unsafe(`INSERT INTO ${schema}.items VALUES (7, 'seven'); SELECT 1/0; SELECT 3`))
  result['unsafe begin'] = await outcome(first.unsafe('SELECT 1 AS still_here'))
  result.end = await all(other)
  for (const sql of [first, other]) await sql.end()
  return result
}

async function cursor() {
  const sql = one()
  const text = (n) => sql`SELECT n, repeat('x', n % 50) AS t FROM generate_series(1, ${n}::int) AS n`
  const result = {}
  const seen = []
  // Outside of a transaction block the portal lives until the Sync, and so must its server.
  for await (const part of text(5000).cursor(100)) seen.push(part.length, part[0].n)
  result.iterated = [seen.length, seen.reduce((sum, n) => sum + n, 0)]
  const early = []
  for await (const [row] of text(100).cursor()) {
    early.push(row.n)
    if (row.n === 5) break
  }
  result['left early'] = [early, await value(sql, 'SELECT 1')]
  let calls = 0
  await text(100).cursor(10, () => (++calls === 3 ? sql.CLOSE : undefined))
  result.closed = calls
  result.inside = await sql.begin(async (sql) => {
    let total = 0
    await sql`SELECT n FROM generate_series(1, 1000) AS n`.cursor(7, (part) => {
      total += part.length
    })
    return [total, await value(sql, 'SELECT 2')]
  })
  const before = []
  result['error inside'] = await outcome(
    sql`SELECT 10 / (20 - n) AS n FROM generate_series(1, 30) AS n`.cursor(10, (part) => void before.push(part.length)),
  )
  result['before the error'] = before
  let each = 0
  await text(1000).forEach(() => void each++)
  result.each = each
  await sql.end()
  return result
}

async function copy() {
  const sql = one()
  const table = `${schema}.copied`
  const digest = () =>
    rows(sql, `SELECT count(*)::int, sum(id)::int, sum(amount)::text, count(note)::int, md5(string_agg(note, '' ORDER BY id)) FROM ${table}`)
  const result = {}
  function* lines() {
    for (let i = 0; i < 20000; i++) yield `${i}\t${i % 10 ? `note ${i} \\\\` : '\\N'}\t${i / 4}\t2024-01-01 00:00:00+00\n`
  }
  const into = async (source) => stream(source, await sql.unsafe(`COPY ${table} FROM STDIN`).writable())
  async function outOf(text) {
    const hash = createHash('md5')
    let length = 0
    await stream(
      await sql.unsafe(text).readable(),
      new Writable({
        write(chunk, _, done) {
          hash.update(chunk)
          length += chunk.length
          done()
        },
      }),
    )
    return [length, hash.digest('hex')]
  }
  await into(Readable.from(lines()))
  result.in = await digest()
  result.out = await outOf(`COPY (SELECT * FROM ${table} ORDER BY id) TO STDOUT`)
  result['binary out'] = await outOf(`COPY (SELECT id, note FROM ${table} ORDER BY id) TO STDOUT (FORMAT binary)`)
  result.usable = await value(sql, 'SELECT 1')
  result.end = await digest()
  await sql.end()
  return result
}

async function running(watch, marker) {
  const text = `SELECT count(*)::int FROM pg_stat_activity
                WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE $1`
  while ((await value(watch, text, [`%${marker}%`])) === 0) await sleep(10)
}

async function cancel() {
  const [sql, neighbour, watch] = [one(), one(), one()]
  const result = []
  for (let turn = 0; turn < 5; turn++) {
    const marker = `${schema} cancel ${turn}`
    const beside = value(neighbour, 'SELECT 7 FROM pg_sleep(0.5)')
    const query = sql.unsafe(`SELECT pg_sleep(600) /* ${marker} */`)
    const ended = outcome(query)
    await running(watch, marker)
    query.cancel()
    result.push([await ended, await value(sql, 'SELECT 1'), await beside])
  }
  // A query that waits behind another one is taken out before it was sent.
  const long = outcome(sql`SELECT 8 AS n FROM pg_sleep(0.2)`)
  const queued = sql`SELECT 9 AS n`
  const ended = outcome(queued)
  result.push(await long, (await ended).length, await value(sql, 'SELECT 10'))
  for (const s of [sql, neighbour, watch]) await s.end()
  return result
}

async function timeout() {
  const sql = one()
  const ledger = `${schema}.ledger`
  const result = {}
  result.statement_timeout = await outcome(
    sql.begin(async (sql) => {
      await sql.unsafe(`INSERT INTO ${ledger} VALUES (-2, 1)`)
      await sql`SET LOCAL statement_timeout = '50ms'`
      await sql`SELECT pg_sleep(600)`
    }),
  )
  result['setting afterwards'] = await value(sql, 'SHOW statement_timeout')
  const configured = one({ connection: { statement_timeout: 500 } })
  result.configured = [await outcome(configured`SELECT pg_sleep(600)`), await outcome(configured`SELECT pg_sleep(600)`)]
  await configured.end()
  // Connections that are closed when idle, and when they are old, and come back.
  const brief = postgres(dsn, { max: 3, idle_timeout: 0.05, max_lifetime: 0.1 })
  result.brief = []
  for (let i = 0; i < 5; i++) {
    result.brief.push((await Promise.all([1, 2, 3, 4, 5].map((n) => brief`SELECT ${n}::int * ${i}::int AS n`))).map(([row]) => row.n))
    await sleep(120)
  }
  await brief.end()
  result.committed = await value(sql, `SELECT count(*)::int FROM ${ledger} WHERE task = -2`)
  await sql.end()
  return result
}

async function notices() {
  const heard = { one: [], other: [] }
  const hears = (who) => ({ onnotice: (n) => heard[who].push([n.severity, n.code, n.message, n.detail, n.hint]) })
  const [first, other] = [one(hears('one')), one(hears('other'))]
  await other`SET client_min_messages = warning`
  for (let turn = 0; turn < 5; turn++) {
    for (const sql of [first, other]) await sql.unsafe(raises(turn))
  }
  await first.unsafe(`CREATE TABLE IF NOT EXISTS ${schema}.items (id int)`)
  const result = { heard, told: [] }
  const channel = `${schema}_channel`
  let told
  const listening = await first.listen(channel, (payload) => told(payload))
  for (let turn = 0; turn < 3; turn++) {
    for (const sql of [first, other]) {
      const next = new Promise((resolve) => (told = resolve))
      await sql.notify(channel, `turn ${turn}`)
      result.told.push(await next)
    }
  }
  await listening.unlisten()
  await other.notify(channel, 'nobody hears')
  result.afterwards = await value(first, 'SELECT 1')
  for (const sql of [first, other]) await sql.end()
  return result
}

async function pipeline() {
  const sql = one()
  const ledger = sql(`${schema}.ledger`)
  const count = async () => (await sql`SELECT count(*)::int, sum(number)::int FROM ${ledger} WHERE task = -3`)[0]
  const result = {}
  result.five = await Promise.all([1, 2, 3, 4, 5].map(async (n) => (await sql`SELECT ${n}::int AS n`)[0].n))
  const answers = await Promise.all(Array.from({ length: 500 }, (_, n) => value(sql, 'SELECT $1::int * 2', [n])))
  result.answers = answers.every((double, n) => double === 2 * n)
  await Promise.all(Array.from({ length: 500 }, (_, n) => sql`INSERT INTO ${ledger} VALUES (-3, ${n})`))
  result.inserted = await count()
  result.each = await Promise.all(
    ['SELECT 1', 'SELECT 1 / 0', 'SELECT nothing_like_this', 'SELECT 2'].map((text) => outcome(value(sql, text))),
  )
  // A transaction whose queries are all on their way before its BEGIN is answered.
  result.block = await outcome(
    sql.begin((sql) => [sql`INSERT INTO ${ledger} VALUES (-3, 1000)`, sql`SELECT 1 / 0`, sql`SELECT 2`]),
  )
  result.again = await sql.begin((sql) => [1, 2, 3].map((n) => sql`INSERT INTO ${ledger} VALUES (-3, ${2000 + n}) RETURNING number`))
  // Transactions and single queries of a pool, all at once.
  const pool = postgres(dsn, { onnotice: () => {} })
  const mixed = await Promise.all(
    Array.from({ length: 100 }, (_, n) =>
      n % 3
        ? pool`SELECT ${n}::int AS n`.then(([row]) => row.n)
        : pool.begin(async (sql) => (await sql`SELECT ${n}::int AS n`)[0].n + (await sql`SELECT 0 AS n`)[0].n),
    ),
  )
  result.mixed = mixed.every((got, n) => got === n)
  await pool.end()
  result.end = await count()
  await sql.end()
  return result
}

async function settings() {
  const clients = zones.map(() => one())
  const result = []
  for (const [number, sql] of clients.entries()) {
    await sql.unsafe(`SET TimeZone = '${zones[number]}'`)
    await sql.unsafe(`SET IntervalStyle = '${styles[number]}'`)
    await sql.unsafe(`SET work_mem = '${number + 1}MB'`)
  }
  const text = `SELECT timestamptz '2024-07-01 12:00:00+00'::text, interval '1 day 2 hours'::text,
                       current_setting('work_mem'), pg_backend_pid()`
  for (let turn = 0; turn < 5; turn++) {
    for (const [number, sql] of clients.entries()) {
      if (turn === number) await sql`SELECT 1` // out of step, as above
      const [row] = await rows(sql, text)
      saw(number, row[3])
      result.push(row.slice(0, 3))
    }
  }
  const [first] = clients
  await outcome(first.begin(async (sql) => (await sql`SET TimeZone = 'Asia/Kolkata'`, await sql`SELECT 1 / 0`)))
  result.push(await value(first, 'SHOW TimeZone'))
  await first.begin((sql) => sql`SET LOCAL TimeZone = 'Asia/Kolkata'`)
  result.push(await value(first, 'SHOW TimeZone'))
  for (const sql of clients) {
    await sql`RESET ALL`
    result.push([await value(sql, 'SHOW TimeZone'), await value(sql, 'SHOW IntervalStyle'), await value(sql, 'SHOW work_mem')])
    await sql.end()
  }
  return result
}

async function concurrent() {
  const ledger = `${schema}.ledger`
  // apps: pool
  const pool = postgres(dsn, { max: 10, connect_timeout: 30 })
  // apps: end
  const result = await crowd(async (number, check) => {
    const zone = `Etc/GMT+${number % 12}`
    const sql = one({ connection: { application_name: `task ${number}`, TimeZone: zone } })
    let committed = 0
    const count = async (sql) => (await sql`SELECT count(*)::int AS n FROM ${sql(ledger)} WHERE task = ${number}`)[0].n
    const step = async (kind, turn) => {
      switch (kind) {
        case 0: {
          const [row] = await rows(sql, 'SELECT $1::int * 2, $2::text, pg_backend_pid()', [number, `t${turn}`])
          saw(number, row[2])
          check('select', row.slice(0, 2), [number * 2, `t${turn}`])
          break
        }
        case 1:
          await sql.begin(async (sql) => {
            await sql`INSERT INTO ${sql(ledger)} VALUES (${number}, ${turn})`
            check('own rows', await count(sql), ++committed)
          })
          break
        case 2:
          await sql
            .begin(async (sql) => {
              await sql`INSERT INTO ${sql(ledger)} VALUES (${number}, ${turn})`
              throw new Error('unwanted')
            })
            .catch(() => {})
          break
        case 3:
          check('error', (await outcome(sql`SELECT 1 / (${number}::int - ${number}::int)`)).sqlstate, '22012')
          break
        case 4:
          check('settings', (await rows(sql, "SELECT current_setting('TimeZone'), current_setting('application_name')"))[0], [
            zone,
            `task ${number}`,
          ])
          break
        default: {
          const found = await Promise.all([1, 2, 3].map(async (n) => (await pool`SELECT ${n}::int * ${number}::int AS n`)[0].n))
          check('pool', same(found, [number, number * 2, number * 3]), true)
        }
      }
    }
    const end = async () => {
      check('at the end', await count(sql), committed)
      await sql.end()
    }
    return { step, end }
  })
  await pool.end()
  return result
}

await run({
  connect, types, prepared, ddl, transaction, cursor, copy, cancel, timeout, notices, pipeline, settings, concurrent,
})
