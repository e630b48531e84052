// Drizzle over postgres.js and over node-postgres: the scenarios of
// test/drivers/scenarios_test.go that it has.

import postgres from 'postgres'
import pg from 'pg'
import { and, asc, count, eq, inArray, sql } from 'drizzle-orm'
import * as c from 'drizzle-orm/pg-core'
import { drizzle as overPostgres } from 'drizzle-orm/postgres-js'
import { drizzle as overPg } from 'drizzle-orm/node-postgres'
import { crowd, dsn, options, run, saw, schema, statements, styles, zones } from './smoke.js'

const namespace = c.pgSchema(schema)
const items = namespace.table('items', { id: c.integer().primaryKey(), note: c.text().notNull(), parent: c.integer() })
const ledger = namespace.table('ledger', { task: c.integer().notNull(), number: c.integer().notNull() })
const mood = namespace.enum('mood', ['calm', 'rough', 'stormy'])
const everything = namespace.table('everything', {
  id: c.serial().primaryKey(),
  small: c.smallint(),
  big: c.bigint({ mode: 'bigint' }),
  amount: c.numeric({ precision: 60, scale: 9 }),
  real: c.doublePrecision(),
  yes: c.boolean(),
  note: c.text(),
  missing: c.varchar({ length: 5 }),
  key: c.uuid(),
  day: c.date(),
  clock: c.time(),
  at: c.timestamp({ withTimezone: true, precision: 3 }),
  span: c.interval(),
  document: c.jsonb(),
  numbers: c.integer().array(),
  words: c.text().array(),
  mood: mood(),
})

// open gives a database with one connection, unless max says more.
function open(settings = {}, max = 1) {
  if (options.driver === 'drizzle-postgres.js') {
    // apps: postgres.js
    const client = postgres(dsn, { max, connection: settings })
    const db = overPostgres(client)
    // apps: end
    return { db, end: () => client.end(), rows: (query) => db.execute(query).then((found) => [...found]) }
  }
  const startup = Object.entries(settings).map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`).join(' ')
  // apps: node-postgres
  const pool = new pg.Pool({ connectionString: dsn, max, options: startup || undefined })
  const db = overPg(pool)
  // apps: end
  return { db, end: () => pool.end(), rows: (query) => db.execute(query).then((found) => found.rows) }
}

// of is the same for a transaction.
const of = (tx, query) => tx.execute(query).then((found) => found.rows ?? [...found])

async function outcome(promise) {
  try {
    return await promise
  } catch (error) {
    return failure(error)
  }
}

function failure(error) {
  const cause = error.cause ?? error
  return cause.code && cause.severity ? { sqlstate: cause.code, message: cause.message } : { error: cause.message }
}

async function connect() {
  const names = ['application_name', 'statement_timeout', 'TimeZone', 'DateStyle', 'search_path']
  const ours = open({
    application_name: 'smoke drizzle', statement_timeout: '12345', TimeZone: 'Asia/Tokyo', DateStyle: 'German', search_path: schema,
  })
  const plain = open()
  const result = { shown: [] }
  for (let turn = 0; turn < 4; turn++) {
    for (const one of [ours, plain]) {
      for (const name of names) result.shown.push(await one.rows(sql.raw(`SHOW ${name}`)))
    }
  }
  for (const one of [ours, plain]) await one.end()
  return result
}

async function types() {
  const { db, rows, end } = open()
  await rows(sql.raw(`CREATE TABLE ${schema}.everything (id serial PRIMARY KEY, small smallint, big bigint, amount numeric(60,9),
    "real" double precision, yes boolean, note text, missing varchar(5), key uuid, day date, clock time, at timestamptz(3),
    span interval, document jsonb, numbers int[], words text[], mood ${schema}.mood)`))
  const sent = {
    small: -32768, big: -(2n ** 63n), amount: '123456789012345678901234567890.123456789', real: 1e-300, yes: true,
    note: `Größe 舵 ⚓ O'ring \\ $1${'x'.repeat(100000)}`, missing: null, key: '00000000-0000-0000-0000-000000000007',
    day: '0001-01-01', clock: '12:30:00', at: new Date(Date.UTC(2024, 1, 29, 23, 59, 59, 123)), span: '3 days 00:00:04',
    document: { a: [1, null] }, numbers: [1, 2, 3], words: ['a', 'b', 'q"'], mood: 'stormy',
  }
  const [{ id }] = await db.insert(everything).values(sent).returning({ id: everything.id })
  const [found] = await db.select().from(everything).where(and(eq(everything.id, id), inArray(everything.mood, ['stormy', 'calm'])))
  const result = Object.keys(sent).map((name) => {
    const back = JSON.stringify(found[name], (_, value) => (typeof value === 'bigint' ? `${value}n` : value))
    return [name, back.length, back.slice(0, 100)]
  })
  result.push(await outcome(rows(sql`SELECT ${'not a number'}::int4 AS n`)))
  await rows(sql.raw(`DROP TABLE ${schema}.everything`))
  await end()
  return result
}

async function prepared() {
  const sides = { left: open(), right: open() }
  const wrong = []
  let answers = 0
  // Statements with names: both sides have the same ones.
  const named = {}
  for (const [side, { db }] of Object.entries(sides)) {
    named[side] = Array.from({ length: statements }, (_, i) =>
      db
        .select({ n: sql`${sql.placeholder('n')}::int + ${sql.raw(String(i))}`, tag: sql.raw(`'${side}${i}'`), pid: sql`pg_backend_pid()` })
        .from(sql`(VALUES (1)) AS one`)
        .prepare(`s${i}`),
    )
  }
  for (let turn = 0; turn < 2; turn++) {
    for (let i = 0; i < statements; i++) {
      // Clients that take turns in step would meet the same server each time.
      if (i % 7 === 0) await sides.left.rows(sql`SELECT 1`)
      for (const side of Object.keys(sides)) {
        const [row] = await named[side][i].execute({ n: turn })
        saw(side, row.pid)
        answers++
        if (row.n !== turn + i || row.tag !== side + i) wrong.push([side, i, turn, row])
      }
    }
  }
  const result = { answers, wrong: wrong.slice(0, 5) }
  result.bad = [await outcome(sides.left.rows(sql`SELECT nothing_like_this`)), await sides.left.rows(sql`SELECT 5 AS n`)]
  for (const one of Object.values(sides)) await one.end()
  return result
}

async function ddl() {
  const [changes, reads] = [open(), open()]
  const narrow = namespace.table('changed', { a: c.integer() })
  const wide = namespace.table('changed', { a: c.integer(), b: c.integer() })
  await changes.rows(sql.raw(`CREATE TABLE ${schema}.changed (a int)`))
  await changes.db.insert(narrow).values({ a: 1 })
  const select = (table) => reads.db.select().from(table)
  const result = { before: [await select(narrow), await select(narrow)] }
  await changes.rows(sql.raw(`ALTER TABLE ${schema}.changed ADD COLUMN b int DEFAULT 2`))
  // Drizzle names its columns: what was prepared stays good.
  result.after = [await outcome(select(narrow)), await outcome(select(wide))]
  await changes.rows(sql.raw(`ALTER TABLE ${schema}.changed ALTER a TYPE text`))
  result['other type'] = [await outcome(select(narrow)), await outcome(select(narrow))]
  await changes.rows(sql.raw(`DROP TABLE ${schema}.changed`))
  result.dropped = await outcome(select(wide))
  for (const one of [changes, reads]) await one.end()
  return result
}

async function transaction() {
  const [one, other] = [open(), open()]
  const all = () => other.db.select().from(items).orderBy(asc(items.id))
  const counted = async (db) => (await db.select({ n: count() }).from(items))[0].n
  const result = {}
  await one.db.transaction(async (tx) => {
    await tx.insert(items).values({ id: 1, note: 'one' })
    result.duplicate = await outcome(tx.transaction((tx) => tx.insert(items).values({ id: 2, note: 'one' })))
    await tx.transaction((tx) => tx.insert(items).values({ id: 3, note: 'three', parent: 1 }))
    result.seen = [await counted(tx), await counted(other.db)]
  })
  result['after commit'] = await all()
  result.division = await outcome(
    one.db.transaction(async (tx) => {
      await tx.insert(items).values({ id: 4, note: 'four' })
      await tx.execute(sql`SELECT 1 / 0`)
    }),
  )
  result['rolled back'] = await outcome(
    one.db.transaction(async (tx) => {
      await tx.insert(items).values({ id: 4, note: 'four' })
      tx.rollback()
    }),
  )
  result['deferred constraint'] = await outcome(one.db.transaction((tx) => tx.insert(items).values({ id: 5, note: 'five', parent: 999 })))
  result.isolation = await one.db.transaction((tx) => of(tx, sql`SHOW transaction_isolation`), {
    isolationLevel: 'serializable', accessMode: 'read only', deferrable: true,
  })
  result['read only'] = await outcome(
    one.db.transaction((tx) => tx.insert(items).values({ id: 6, note: 'six' }), { accessMode: 'read only' }),
  )
  result['isolation after'] = await one.rows(sql`SHOW transaction_isolation`)
  result.upsert = await one.db.insert(items).values({ id: 1, note: 'uno' }).onConflictDoUpdate({ target: items.id, set: { note: 'uno' } }).returning()
  result.end = await all()
  for (const o of [one, other]) await o.end()
  return result
}

async function timeout() {
  const one = open()
  const hurried = open({ statement_timeout: '500' })
  const result = { configured: [await outcome(hurried.rows(sql`SELECT pg_sleep(600)`)), await outcome(hurried.rows(sql`SELECT pg_sleep(600)`))] }
  result.local = await outcome(
    one.db.transaction(async (tx) => {
      await tx.insert(ledger).values({ task: -2, number: 1 })
      await tx.execute(sql`SET LOCAL statement_timeout = '50ms'`)
      await tx.execute(sql`SELECT pg_sleep(600)`)
    }),
  )
  result['setting afterwards'] = await one.rows(sql`SHOW statement_timeout`)
  result.committed = await one.db.select({ n: count() }).from(ledger).where(eq(ledger.task, -2))
  for (const o of [one, hurried]) await o.end()
  return result
}

async function pipeline() {
  // Many queries at once on one connection, and on a pool of ten.
  const result = {}
  for (const max of [1, 10]) {
    const one = open({}, max)
    const found = await Promise.all(Array.from({ length: 200 }, (_, n) => one.rows(sql`SELECT ${n}::int AS n`)))
    await Promise.all(Array.from({ length: 200 }, (_, n) => one.db.insert(ledger).values({ task: -3, number: max * 1000 + n })))
    const each = ['SELECT 1 AS n', 'SELECT 1 / 0 AS n', 'SELECT 2 AS n'].map((text) => outcome(one.rows(sql.raw(text))))
    result[max] = [found.every(([row], n) => row.n === n), await Promise.all(each)]
    result[`${max} inserted`] = await one.db.select({ n: count() }).from(ledger).where(eq(ledger.task, -3))
    await one.end()
  }
  return result
}

async function settings() {
  const clients = zones.map(() => open())
  const result = []
  for (const [number, one] of clients.entries()) {
    await one.rows(sql.raw(`SET TimeZone = '${zones[number]}'`))
    await one.rows(sql.raw(`SET IntervalStyle = '${styles[number]}'`))
    await one.rows(sql`SELECT set_config('application_name', ${`smoke ${number}`}, false)`)
  }
  for (let turn = 0; turn < 5; turn++) {
    for (const [number, one] of clients.entries()) {
      if (turn === number) await one.rows(sql`SELECT 1`) // out of step, as above
      const [{ pid, ...row }] = await one.rows(sql`SELECT timestamptz '2024-07-01 12:00:00+00'::text AS at,
        interval '1 day 2 hours'::text AS span, current_setting('application_name') AS name, pg_backend_pid() AS pid`)
      saw(number, pid)
      result.push(row)
    }
  }
  const [first] = clients
  await first.db.transaction((tx) => tx.execute(sql`SET LOCAL TimeZone = 'Asia/Kolkata'`))
  result.push(await first.rows(sql`SHOW TimeZone`))
  for (const one of clients) {
    await one.rows(sql`RESET ALL`)
    result.push(await one.rows(sql`SHOW TimeZone`))
    await one.end()
  }
  return result
}

async function concurrent() {
  return crowd(async (number, check) => {
    const one = open({ TimeZone: `Etc/GMT+${number % 12}` })
    const { db } = one
    let committed = 0
    const own = eq(ledger.task, number)
    const counted = async (db) => (await db.select({ n: count() }).from(ledger).where(own))[0].n
    const step = async (kind, turn) => {
      switch (kind) {
        case 0: {
          const [row] = await one.rows(sql`SELECT ${number}::int * 2 AS n, ${`t${turn}`}::text AS t, pg_backend_pid() AS pid`)
          saw(number, row.pid)
          check('select', [row.n, row.t], [number * 2, `t${turn}`])
          break
        }
        case 1:
          await db.transaction(async (tx) => {
            await tx.insert(ledger).values({ task: number, number: turn })
            check('own rows', await counted(tx), ++committed)
          })
          break
        case 2:
          await outcome(
            db.transaction(async (tx) => {
              await tx.insert(ledger).values({ task: number, number: turn })
              tx.rollback()
            }),
          )
          break
        case 3: {
          // In a transaction: node-postgres's pool closes a connection whose single query has failed.
          const failing = db.transaction((tx) => of(tx, sql`SELECT 1 / (${number}::int - ${number}::int)`))
          check('error', (await outcome(failing)).sqlstate, '22012')
          break
        }
        case 4:
          check('settings', await one.rows(sql`SELECT current_setting('TimeZone') AS zone`), [{ zone: `Etc/GMT+${number % 12}` }])
          break
        default: {
          const found = await one.rows(sql`SELECT n * ${number}::int AS n FROM generate_series(1, 200) AS n`)
          check('series', found.reduce((sum, row) => sum + row.n, 0), number * 20100)
        }
      }
    }
    const end = async () => {
      check('at the end', await counted(db), committed)
      await one.end()
    }
    return { step, end }
  })
}

await run({ connect, types, prepared, ddl, transaction, timeout, pipeline, settings, concurrent })
