// Prisma without an engine, over @prisma/adapter-pg: the scenarios of
// test/drivers/scenarios_test.go that it has.

import { PrismaClient } from '@prisma/client'
import { PrismaPg } from '@prisma/adapter-pg'
import { crowd, dsn, run, saw, schema, statements, styles, zones } from './smoke.js'

// open gives a client with one connection, unless max says more.
function open(settings = {}, max = 1, more = {}) {
  const startup = Object.entries({ search_path: schema, ...settings })
    .map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
    .join(' ')
  // apps: client
  const adapter = new PrismaPg({ connectionString: dsn, max, options: startup }, { schema, ...more })
  return new PrismaClient({ adapter })
  // apps: end
}

async function outcome(promise) {
  try {
    return await promise
  } catch (error) {
    return failure(error)
  }
}

function failure(error) {
  const cause = error.meta?.driverAdapterError?.cause
  return { code: error.code, cause: cause?.originalCode, message: cause?.originalMessage ?? cause?.message ?? error.name }
}

const plain = (value) => JSON.parse(JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v)))

async function connect() {
  const names = ['application_name', 'statement_timeout', 'TimeZone', 'DateStyle', 'search_path']
  const ours = open({ application_name: 'smoke prisma', statement_timeout: '12345', TimeZone: 'Asia/Tokyo', DateStyle: 'German' })
  const other = open()
  const result = { shown: [] }
  for (let turn = 0; turn < 4; turn++) {
    for (const one of [ours, other]) {
      for (const name of names) result.shown.push(await one.$queryRawUnsafe(`SHOW ${name}`))
    }
  }
  for (const one of [ours, other]) await one.$disconnect()
  const refused = new PrismaClient({ adapter: new PrismaPg({ connectionString: dsn, password: undefined, user: undefined, database: 'nowhere' }) })
  result.connected = plain(await outcome(refused.$queryRaw`SELECT 1 AS n`))
  await refused.$disconnect()
  return result
}

async function types() {
  const client = open()
  await client.$executeRawUnsafe(`CREATE TABLE ${schema}.everything (id int PRIMARY KEY, small smallint, big bigint, amount numeric(60,9),
    "real" double precision, yes boolean, note text, missing text, blob bytea, key uuid, day date, at timestamptz(6),
    document jsonb, numbers int[], words text[], mood ${schema}.mood)`)
  const sent = {
    id: 1, small: -32768, big: -(2n ** 63n), amount: '123456789012345678901234567890.123456789', real: 1e-300, yes: true,
    note: `Größe 舵 ⚓ O'ring \\ $1${'x'.repeat(100000)}`, missing: null, blob: new Uint8Array(Array.from({ length: 1024 }, (_, i) => i % 256)),
    key: '00000000-0000-0000-0000-000000000007', day: new Date(Date.UTC(2024, 1, 29)), at: new Date(Date.UTC(2024, 1, 29, 23, 59, 59, 123)),
    document: { a: [1, null] }, numbers: [1, 2, 3], words: ['a', 'q"'], mood: 'stormy',
  }
  await client.everything.create({ data: sent })
  const found = await client.everything.findFirstOrThrow({ where: { words: { has: 'a' }, mood: { in: ['stormy', 'calm'] }, big: { lt: 0n } } })
  const result = Object.keys(sent).map((name) => {
    const back = JSON.stringify(plain(found[name]))
    return [name, back.length, back.slice(0, 100)]
  })
  result.push(await outcome(client.$queryRaw`SELECT ${'not a number'}::int4 AS n`))
  result.push(plain(await client.$queryRaw`SELECT ${1}::int8 AS n, ${['a', 'b']}::text[] AS t, ${new Date(0)}::timestamptz AS at`))
  await client.$executeRawUnsafe(`DROP TABLE ${schema}.everything`)
  await client.$disconnect()
  return result
}

async function prepared() {
  // Prisma's adapter gives statements a name where it is told to, the same for the same text in every client.
  const statementNameGenerator = ({ sql }) => `s${sql.length}_${sql.slice(-12).replace(/\W/g, '')}`
  const sides = { left: open(), right: open({}, 1, { statementNameGenerator }), third: open({}, 1, { statementNameGenerator }) }
  const wrong = []
  let answers = 0
  for (let turn = 0; turn < 2; turn++) {
    for (let i = 0; i < statements; i++) {
      // Clients that take turns in step would meet the same server each time.
      if (i % 7 === 0) await sides.left.$queryRaw`SELECT 1`
      for (const [side, client] of Object.entries(sides)) {
        const [row] = await client.$queryRawUnsafe(`SELECT '${side}${i}' AS tag, pg_backend_pid() AS pid, $1::int + ${i} AS n /* ${i} */`, turn)
        saw(side, row.pid)
        answers++
        if (row.n !== turn + i || row.tag !== side + i) wrong.push([side, i, turn, row])
      }
    }
  }
  const result = { answers, wrong: wrong.slice(0, 5) }
  result.bad = [await outcome(sides.left.$queryRaw`SELECT nothing_like_this`), await sides.left.$queryRaw`SELECT 5 AS n`]
  result.models = []
  for (let i = 0; i < 20; i++) result.models.push(await sides.right.item.count({ where: { id: { gt: i } } }))
  for (const client of Object.values(sides)) await client.$disconnect()
  return result
}

async function ddl() {
  const [changes, reads] = [open(), open({}, 1, { statementNameGenerator: () => 'reads' })]
  await changes.$executeRawUnsafe(`CREATE TABLE ${schema}.changed (a int)`)
  await changes.$executeRawUnsafe(`INSERT INTO ${schema}.changed VALUES (1)`)
  const select = () => outcome(reads.$queryRawUnsafe(`SELECT * FROM ${schema}.changed`))
  const result = { before: [await select(), await select()] }
  await changes.$executeRawUnsafe(`ALTER TABLE ${schema}.changed ADD COLUMN b int DEFAULT 2`)
  result.after = [await select(), await select()]
  await changes.$executeRawUnsafe(`DROP TABLE ${schema}.changed`)
  result.dropped = await select()
  for (const client of [changes, reads]) await client.$disconnect()
  return result
}

async function transaction() {
  const [one, other] = [open(), open()]
  const all = () => other.item.findMany({ orderBy: { id: 'asc' } })
  const result = {}
  await one.$transaction(async (tx) => {
    await tx.item.create({ data: { id: 1, note: 'one' } })
    await tx.item.create({ data: { id: 3, note: 'three', parent: 1 } })
    result.seen = [await tx.item.count(), await other.item.count()]
  })
  result['after commit'] = await all()
  result.duplicate = await outcome(
    one.$transaction(async (tx) => {
      await tx.item.create({ data: { id: 2, note: 'two' } })
      await tx.item.create({ data: { id: 4, note: 'one' } })
    }),
  )
  result.division = await outcome(one.$transaction((tx) => tx.$queryRaw`SELECT 1 / 0 AS n`))
  result['deferred constraint'] = await outcome(one.item.create({ data: { id: 5, note: 'five', parent: 999 } }))
  result.isolation = await one.$transaction((tx) => tx.$queryRaw`SHOW transaction_isolation`, { isolationLevel: 'Serializable' })
  result['isolation after'] = await one.$queryRaw`SHOW transaction_isolation`
  result.list = await one.$transaction([
    one.item.create({ data: { id: 6, note: 'six' } }), one.item.update({ where: { id: 6 }, data: { note: 'SIX' } }), one.item.count(),
  ])
  result['failing list'] = await outcome(
    one.$transaction([one.item.create({ data: { id: 7, note: 'seven' } }), one.item.create({ data: { id: 8, note: 'one' } })]),
  )
  result.nested = await one.item.create({
    data: { id: 9, note: 'nine', children: { create: [{ id: 10, note: 'ten' }, { id: 11, note: 'eleven' }] } },
    include: { children: true },
  })
  result.upsert = await one.item.upsert({ where: { id: 9 }, update: { note: 'NINE' }, create: { id: 9, note: 'nine' } })
  result.end = await all()
  for (const client of [one, other]) await client.$disconnect()
  return result
}

async function timeout() {
  const [one, hurried] = [open(), open({ statement_timeout: '500' })]
  const sleep = (client) => outcome(client.$queryRaw`SELECT pg_sleep(600)::text AS n`)
  const result = { configured: [await sleep(hurried), await sleep(hurried)] }
  result.local = await outcome(
    one.$transaction(async (tx) => {
      await tx.ledger.create({ data: { task: -2, number: 1 } })
      await tx.$executeRaw`SET LOCAL statement_timeout = '50ms'`
      await tx.$queryRaw`SELECT pg_sleep(600)::text AS n`
    }),
  )
  result['setting afterwards'] = await one.$queryRaw`SHOW statement_timeout`
  // Prisma's own: it rolls back when a transaction takes too long.
  const own = await outcome(
    one.$transaction(
      async (tx) => {
        await tx.ledger.create({ data: { task: -2, number: 2 } })
        await new Promise((resolve) => setTimeout(resolve, 400))
        await tx.ledger.create({ data: { task: -2, number: 3 } })
      },
      { timeout: 200 },
    ),
  )
  result.own = own.code
  result.committed = await one.ledger.count({ where: { task: -2 } })
  for (const client of [one, hurried]) await client.$disconnect()
  return result
}

async function pipeline() {
  // Many queries at once on one connection, and on a pool of ten.
  const result = {}
  for (const max of [1, 10]) {
    const client = open({}, max)
    const found = await Promise.all(Array.from({ length: 200 }, (_, n) => client.$queryRaw`SELECT ${n}::int AS n`))
    await client.ledger.createMany({ data: Array.from({ length: 2000 }, (_, n) => ({ task: -3, number: max * 10000 + n })) })
    result[max] = [
      found.every(([row], n) => row.n === n),
      await Promise.all(['SELECT 1 AS n', 'SELECT 1 / 0 AS n', 'SELECT 2 AS n'].map((text) => outcome(client.$queryRawUnsafe(text)))),
      await client.ledger.count({ where: { task: -3 } }),
    ]
    await client.$disconnect()
  }
  return result
}

async function settings() {
  const clients = zones.map(() => open())
  const result = []
  for (const [number, client] of clients.entries()) {
    await client.$executeRawUnsafe(`SET TimeZone = '${zones[number]}'`)
    await client.$executeRawUnsafe(`SET IntervalStyle = '${styles[number]}'`)
    await client.$queryRaw`SELECT set_config('application_name', ${`smoke ${number}`}, false)`
  }
  for (let turn = 0; turn < 5; turn++) {
    for (const [number, client] of clients.entries()) {
      if (turn === number) await client.$queryRaw`SELECT 1` // out of step, as above
      const [{ pid, ...row }] = await client.$queryRaw`SELECT timestamptz '2024-07-01 12:00:00+00'::text AS at,
        interval '1 day 2 hours'::text AS span, current_setting('application_name') AS name, pg_backend_pid() AS pid`
      saw(number, pid)
      result.push(row)
    }
  }
  await clients[0].$transaction((tx) => tx.$executeRaw`SET LOCAL TimeZone = 'Asia/Kolkata'`)
  result.push(await clients[0].$queryRaw`SHOW TimeZone`)
  for (const client of clients) {
    await client.$executeRaw`RESET ALL`
    result.push(await client.$queryRaw`SHOW TimeZone`)
    await client.$disconnect()
  }
  return result
}

const patient = { maxWait: 60000, timeout: 60000 }

async function concurrent() {
  return crowd(async (number, check) => {
    const zone = `Etc/GMT+${number % 12}`
    const client = open({ TimeZone: zone })
    let committed = 0
    const count = (client) => client.ledger.count({ where: { task: number } })
    const step = async (kind, turn) => {
      switch (kind) {
        case 0: {
          const [row] = await client.$queryRaw`SELECT ${number}::int * 2 AS n, ${`t${turn}`}::text AS t, pg_backend_pid() AS pid`
          saw(number, row.pid)
          check('select', [row.n, row.t], [number * 2, `t${turn}`])
          break
        }
        case 1:
          await client.$transaction(async (tx) => {
            await tx.ledger.create({ data: { task: number, number: turn } })
            check('own rows', await count(tx), ++committed)
          }, patient)
          break
        case 2:
          await outcome(
            client.$transaction(async (tx) => {
              await tx.ledger.create({ data: { task: number, number: turn } })
              throw new Error('unwanted')
            }, patient),
          )
          break
        case 3: {
          // In a transaction: node-postgres's pool closes a connection whose single query has failed.
          const failing = client.$transaction((tx) => tx.$queryRaw`SELECT 1 / (${number}::int - ${number}::int) AS n`, patient)
          check('error', (await outcome(failing)).cause, '22012')
          break
        }
        case 4:
          check('settings', await client.$queryRaw`SELECT current_setting('TimeZone') AS zone`, [{ zone }])
          break
        default:
          check('own', await count(client), committed)
      }
    }
    const end = async () => {
      check('at the end', await count(client), committed)
      await client.$disconnect()
    }
    return { step, end }
  })
}

await run({ connect, types, prepared, ddl, transaction, timeout, pipeline, settings, concurrent })
