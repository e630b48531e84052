// node-postgres: the scenarios of test/drivers/scenarios_test.go.

import { createHash } from 'node:crypto'
import { pipeline as stream } from 'node:stream/promises'
import { Readable, Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import Cursor from 'pg-cursor'
import copyStreams from 'pg-copy-streams'
import { crowd, dsn, raises, run, same, saw, schema, statements, styles, zones } from './smoke.js'

async function open(config = {}) {
  const client = new pg.Client({ ...parsed(), ...config })
  client.on('error', () => {}) // the query in flight reports it
  await client.connect()
  return client
}

// node-postgres lets a connection string win over its other options, so it is taken apart here.
function parsed() {
  const url = new URL(dsn)
  return {
    host: url.hostname,
    port: Number(url.port),
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password) || undefined,
    database: url.pathname.slice(1),
  }
}

async function rows(client, text, values) {
  return (await client.query({ text, values, rowMode: 'array' })).rows
}

async function value(client, text, values) {
  return (await rows(client, text, values))[0][0]
}

async function outcome(promise) {
  try {
    return await promise
  } catch (error) {
    return failure(error)
  }
}

function failure(error) {
  return error instanceof pg.DatabaseError
    ? { sqlstate: error.code, message: error.message }
    : { error: error.message }
}

async function connect() {
  const result = {}
  const ours = await open({
    application_name: 'smoke node',
    statement_timeout: 12345,
    lock_timeout: 2345,
    options: `-c TimeZone=Asia/Tokyo -c DateStyle=German -c search_path=${schema}`,
  })
  const plain = await open()
  const names = ['application_name', 'statement_timeout', 'lock_timeout', 'TimeZone', 'DateStyle', 'search_path']
  result.shown = []
  for (let turn = 0; turn < 4; turn++) {
    for (const client of [ours, plain]) {
      const shown = []
      for (const name of names) shown.push(await value(client, `SHOW ${name}`))
      result.shown.push(shown)
    }
  }
  await ours.end()
  await plain.end()
  const wrong = {
    'wrong password': { password: 'not the password' },
    'unknown user': { user: 'nobody_of_that_name' },
    'unknown database': { database: 'no_database_of_that_name' },
    'bad setting': { options: '-c TimeZone=Nowhere/Land' },
  }
  for (const [what, config] of Object.entries(wrong)) {
    result[what] = await open(config).then(
      (client) => client.end().then(() => 'connected'),
      (error) => error.code,
    )
  }
  return result
}

async function types() {
  const client = await open()
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
    [`${schema}.mood`, 'stormy'], [`${schema}.position`, '(54.3,10.1)'],
  ]
  const result = []
  for (const [type, given] of sent) {
    const back = JSON.stringify(await value(client, `SELECT $1::${type}`, [given]))
    result.push([type, back.length, back.slice(0, 200)])
  }
  result.push(await outcome(value(client, 'SELECT $1::int4', ['not a number'])))
  const shaped = await client.query("SELECT 1 AS a, NULL::int AS b, 'x'::varchar(3) AS c")
  result.push(shaped.fields.map((field) => [field.name, field.dataTypeID, field.dataTypeModifier]))
  await client.end()
  return result
}

async function prepared() {
  // Two connections give their statements the same names and different texts.
  const sides = { left: await open(), right: await open() }
  const wrong = []
  let answers = 0
  for (let turn = 0; turn < 2; turn++) {
    for (let i = 0; i < statements; i++) {
      // Clients that take turns in step would meet the same server each time.
      if (i % 7 === 0) await sides.left.query('SELECT 1')
      for (const [side, client] of Object.entries(sides)) {
        const query = {
          name: `s${i}`,
          text: `SELECT $1::int + ${i}, '${side}${i}', pg_backend_pid()`,
          values: [turn],
          rowMode: 'array',
        }
        if (turn % 2) {
          await client.query('BEGIN')
          await client.query(query)
        }
        const [row] = (await client.query(query)).rows
        if (turn % 2) await client.query('COMMIT')
        saw(side, row[2])
        answers++
        if (row[0] !== turn + i || row[1] !== side + i) wrong.push([side, i, turn, row])
      }
    }
  }
  const result = { answers, wrong: wrong.slice(0, 5) }
  let total = 0
  for (let i = 0; i < 100; i++) total += await value(sides.left, `SELECT $1::int * ${i}`, [2])
  result.unnamed = total
  result['wrong text'] = await outcome(sides.left.query({ name: 's1', text: 'SELECT 1' }))
  result['bad text'] = await outcome(sides.left.query({ name: 'bad', text: 'SELECT nothing_like_this' }))
  result['good text'] = (await sides.left.query({ name: 'bad', text: 'SELECT 5 AS n' })).rows
  for (const client of Object.values(sides)) await client.end()
  return result
}

async function ddl() {
  // Statements whose table has changed since they were prepared.
  const changes = await open()
  const reads = await open()
  const query = { name: 'all', text: `SELECT * FROM ${schema}.changed`, rowMode: 'array' }
  const all = async (client) => (await client.query(query)).rows
  await changes.query(`CREATE TABLE ${schema}.changed (a int)`)
  await changes.query(`INSERT INTO ${schema}.changed VALUES (1)`)
  const result = { before: [await all(reads), await all(reads)] }
  await changes.query(`ALTER TABLE ${schema}.changed ADD COLUMN b int DEFAULT 2`)
  // PostgreSQL refuses the old plan, and node-postgres keeps the name for the text.
  result.after = [await outcome(all(reads)), await outcome(all(reads))]
  const fresh = await open()
  await fresh.query('BEGIN')
  result.fresh = await outcome(all(fresh))
  await fresh.query('COMMIT')
  await changes.query(`DROP TABLE ${schema}.changed`)
  result.dropped = await outcome(all(fresh))
  for (const client of [changes, reads, fresh]) await client.end()
  return result
}

async function transaction() {
  const items = `${schema}.items`
  const one = await open()
  const other = await open()
  const insert = `INSERT INTO ${items} VALUES ($1, $2, $3)`
  const count = `SELECT count(*) FROM ${items}`
  const all = `SELECT * FROM ${items} ORDER BY id`
  const result = {}
  await one.query('BEGIN')
  await one.query(insert, [1, 'one', null])
  await one.query('SAVEPOINT a')
  result.duplicate = await outcome(one.query(insert, [2, 'one', null]))
  result.failed = await outcome(value(one, 'SELECT 1'))
  await one.query('ROLLBACK TO SAVEPOINT a')
  await one.query(insert, [3, 'three', 1])
  await one.query('RELEASE SAVEPOINT a')
  result['seen inside'] = await value(one, count)
  result['seen outside'] = await value(other, count)
  await one.query('COMMIT')
  result['after commit'] = await rows(other, all)
  await one.query('BEGIN')
  await one.query(insert, [4, 'four', null])
  result['division'] = await outcome(value(one, 'SELECT 1 / 0'))
  result['commit of a failed one'] = (await one.query('COMMIT')).command
  result['after rollback'] = await value(other, count)
  await one.query('BEGIN')
  await one.query(insert, [5, 'five', 999])
  result['deferred constraint'] = await outcome(one.query('COMMIT'))
  await one.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY')
  result.isolation = await value(one, 'SHOW transaction_isolation')
  result['read only'] = await outcome(one.query(insert, [6, 'six', null]))
  await one.query('ROLLBACK')
  result['isolation after'] = await value(one, 'SHOW transaction_isolation')
  const several = await one.query('BEGIN; SELECT 1 AS a; SELECT 2 AS b; COMMIT')
  result['many statements'] = several.map((part) => [part.command, part.rows])
  result['failing among many'] = await outcome(
    one.query(`INSERT INTO ${items} VALUES (7, 'seven', NULL); SELECT 1/0; SELECT 3`),
  )
  result['implicit'] = await outcome(one.query('ROLLBACK'))
  result.empty = (await one.query('')).command
  result.end = await rows(other, all)
  delete result.implicit
  await one.end()
  await other.end()
  return result
}

async function cursor() {
  const client = await open()
  const text = "SELECT n, repeat('x', n % 50) AS t FROM generate_series(1, $1::int) AS n"
  const result = {}
  await client.query('BEGIN')
  const all = client.query(new Cursor(text, [5000]))
  let count = 0
  let total = 0
  for (;;) {
    const part = await all.read(100)
    if (part.length === 0) break
    count += part.length
    total += part.reduce((sum, row) => sum + row.n, 0)
  }
  result.iterated = [count, total]
  const early = client.query(new Cursor(text, [5000]))
  result['left early'] = (await early.read(10)).length
  await early.close()
  result.inside = await value(client, 'SELECT 1')
  await client.query('COMMIT')
  // Outside of a transaction block a portal lives until the next Sync, and so must its server.
  const alone = client.query(new Cursor(text, [1000]))
  result.alone = [(await alone.read(10)).length, (await alone.read(10))[0].n, (await alone.read(2000)).length]
  await alone.close()
  const failing = client.query(new Cursor('SELECT 10 / (20 - n) FROM generate_series(1, 30) AS n', []))
  result['before the error'] = (await failing.read(10)).length
  result['error inside'] = await outcome(failing.read(20))
  result.afterwards = await value(client, 'SELECT 1')
  await client.end()
  return result
}

async function copy() {
  const client = await open()
  const table = `${schema}.copied`
  const digest = `SELECT count(*), sum(id), sum(amount), count(note), md5(string_agg(note, '' ORDER BY id)) FROM ${table}`
  const result = {}
  function* lines() {
    for (let i = 0; i < 20000; i++) {
      yield `${i}\t${i % 10 ? `note ${i} \\\\` : '\\N'}\t${i / 4}\t2024-01-01 00:00:00+00\n`
    }
  }
  const into = (source) => stream(source, client.query(copyStreams.from(`COPY ${table} FROM STDIN`)))
  async function outOf(text) {
    const hash = createHash('md5')
    let length = 0
    await stream(
      client.query(copyStreams.to(text)),
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
  result.in = await rows(client, digest)
  result.out = await outOf(`COPY (SELECT * FROM ${table} ORDER BY id) TO STDOUT`)
  result['binary out'] = await outOf(`COPY (SELECT id, note FROM ${table} ORDER BY id) TO STDOUT (FORMAT binary)`)
  result['bad line'] = await outcome(
    into(
      Readable.from(
        (function* () {
          yield '100002\tx\tnot a number\t2024-01-01\n'
          for (let i = 0; i < 2000; i++) yield '100003\tx\t1\t2024-01-01\n'
        })(),
      ),
    ),
  )
  result['usable'] = await value(client, 'SELECT 1')
  result['source fails'] = await outcome(
    into(
      Readable.from(
        (async function* () {
          yield '100001\tx\t1\t2024-01-01\n'
          throw new Error('no more')
        })(),
      ),
    ),
  )
  result['usable again'] = await value(client, 'SELECT 1')
  await client.query('BEGIN')
  await into(Readable.from(['100004\tin transaction\t1\t2024-01-01\n']))
  result.inside = await value(client, `SELECT note FROM ${table} WHERE id = 100004`)
  await client.query('ROLLBACK')
  result.end = await rows(client, digest)
  await client.end()
  return result
}

async function running(watch, marker) {
  const text = `SELECT count(*) FROM pg_stat_activity
                WHERE wait_event = 'PgSleep' AND pid <> pg_backend_pid() AND query LIKE $1`
  while ((await value(watch, text, [`%${marker}%`])) === '0') await sleep(10)
}

async function cancel() {
  const one = await open()
  const neighbour = await open()
  const watch = await open()
  const result = []
  for (let turn = 0; turn < 5; turn++) {
    const marker = `${schema} cancel ${turn}`
    const beside = value(neighbour, 'SELECT 7 FROM pg_sleep(0.5)')
    const query = new pg.Query(`SELECT pg_sleep(600) /* ${marker} */`)
    const ended = new Promise((resolve) => {
      query.on('error', (error) => resolve(failure(error)))
      query.on('end', () => resolve('end'))
    })
    one.query(query)
    await running(watch, marker)
    new pg.Client(parsed()).cancel(one, query)
    result.push([await ended, await value(one, 'SELECT 1'), await beside])
  }
  await one.query('BEGIN')
  await one.query(`INSERT INTO ${schema}.ledger VALUES (-1, 1)`)
  const marker = `${schema} cancel inside`
  const pid = await value(one, 'SELECT pg_backend_pid()')
  const query = outcome(one.query(`SELECT pg_sleep(600) /* ${marker} */`))
  await running(watch, marker)
  await watch.query('SELECT pg_cancel_backend($1)', [pid])
  result.push(await query, await outcome(value(one, 'SELECT 1')))
  await one.query('ROLLBACK')
  result.push(await value(watch, `SELECT count(*) FROM ${schema}.ledger WHERE task = -1`))
  for (const client of [one, neighbour, watch]) await client.end()
  return result
}

async function timeout() {
  const client = await open()
  const ledger = `${schema}.ledger`
  const result = {}
  await client.query('BEGIN')
  await client.query(`INSERT INTO ${ledger} VALUES (-2, 1)`)
  await client.query("SET LOCAL statement_timeout = '50ms'")
  result['statement_timeout'] = await outcome(client.query('SELECT pg_sleep(600)'))
  await client.query('ROLLBACK')
  result['setting afterwards'] = await value(client, 'SHOW statement_timeout')
  const configured = await open({ statement_timeout: 500 })
  result.configured = await outcome(configured.query('SELECT pg_sleep(600)'))
  await configured.end()
  // query_timeout gives up on the answer; the connection is then of no use and is closed.
  const marker = `${schema} timeout`
  const given = await open({ query_timeout: 300 })
  await given.query('BEGIN')
  await given.query(`INSERT INTO ${ledger} VALUES (-2, 2)`)
  result.query_timeout = await outcome(given.query(`SELECT pg_sleep(600) /* ${marker} */`))
  // apps: pool
  const pool = new pg.Pool({ ...parsed(), max: 2, idleTimeoutMillis: 100, connectionTimeoutMillis: 20000 })
  // apps: end
  result.pool = (await Promise.all(Array.from({ length: 20 }, (_, i) => pool.query('SELECT $1::int AS n', [i])))).map(
    (answer) => answer.rows[0].n,
  )
  await pool.end()
  await client.query(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE $1',
    [`%${marker} *%`],
  )
  given.connection.stream.destroy()
  result.committed = await value(client, `SELECT count(*) FROM ${ledger} WHERE task = -2`)
  await client.end()
  return result
}

async function notices() {
  const heard = { one: [], other: [] }
  const [one, other] = [await open(), await open()]
  for (const [who, client] of [['one', one], ['other', other]]) {
    client.on('notice', (n) => heard[who].push([n.severity, n.code, n.message, n.detail, n.hint]))
  }
  await other.query('SET client_min_messages = warning')
  for (let turn = 0; turn < 5; turn++) {
    for (const client of [one, other]) await client.query(raises(turn))
  }
  await one.query(`CREATE TABLE IF NOT EXISTS ${schema}.items (id int)`)
  const result = { heard, told: [] }
  const channel = `${schema}_channel`
  await one.query(`LISTEN ${channel}`)
  for (let turn = 0; turn < 3; turn++) {
    for (const client of [one, other]) {
      const told = new Promise((resolve) => one.once('notification', resolve))
      await client.query('SELECT pg_notify($1, $2)', [channel, `turn ${turn}`])
      const { channel: on, payload, processId } = await told
      result.told.push([on, payload, processId === one.processID])
    }
  }
  await one.query('UNLISTEN *')
  await other.query(`NOTIFY ${channel}, 'nobody hears'`)
  result.afterwards = await value(one, 'SELECT 1')
  for (const client of [one, other]) await client.end()
  return result
}

async function pipeline() {
  const client = await open({ pipeline: true })
  const ledger = `${schema}.ledger`
  const insert = `INSERT INTO ${ledger} VALUES (-3, $1)`
  const count = `SELECT count(*), sum(number) FROM ${ledger} WHERE task = -3`
  const result = {}
  const answers = await Promise.all(
    Array.from({ length: 200 }, (_, n) => value(client, 'SELECT $1::int * 2', [n])),
  )
  result.answers = answers.reduce((sum, n) => sum + n, 0)
  result.named = await Promise.all(
    Array.from({ length: 50 }, async (_, n) =>
      (await client.query({ name: `p${n % 5}`, text: `SELECT $1::int + ${n % 5}`, values: [n], rowMode: 'array' })).rows[0][0],
    ),
  )
  await Promise.all(Array.from({ length: 500 }, (_, n) => client.query(insert, [n])))
  result.inserted = await rows(client, count)
  // Every query has its own Sync: one that fails takes nothing from its neighbours.
  result.each = await Promise.all(
    ['SELECT 1', 'SELECT 1 / 0', 'SELECT nothing_like_this', 'SELECT 2'].map((text) => outcome(value(client, text, []))),
  )
  result.block = await Promise.all(
    ['BEGIN', `INSERT INTO ${ledger} VALUES (-3, 1000)`, 'SELECT 1 / 0', 'SELECT 2', 'COMMIT', 'SELECT 3'].map((text) =>
      outcome(client.query({ text, values: [] }).then((answer) => answer.command)),
    ),
  )
  result.end = await rows(client, count)
  await client.end()
  return result
}

async function settings() {
  const clients = await Promise.all(zones.map(() => open()))
  const result = []
  for (const [number, client] of clients.entries()) {
    await client.query(`SET TimeZone = '${zones[number]}'`)
    await client.query(`SET application_name = 'smoke ${number}'`)
    await client.query(`SET IntervalStyle = '${styles[number]}'`)
  }
  const text = `SELECT timestamptz '2024-07-01 12:00:00+00'::text, interval '1 day 2 hours'::text,
                       current_setting('application_name'), pg_backend_pid()`
  for (let turn = 0; turn < 5; turn++) {
    for (const [number, client] of clients.entries()) {
      if (turn === number) await client.query('SELECT 1') // out of step, as above
      const [row] = await rows(client, text)
      saw(number, row[3])
      result.push(row.slice(0, 3))
    }
  }
  const [one] = clients
  await one.query('BEGIN')
  await one.query("SET TimeZone = 'Asia/Kolkata'")
  await one.query('ROLLBACK')
  result.push(await value(one, 'SHOW TimeZone'))
  await one.query("BEGIN; SET LOCAL TimeZone = 'Asia/Kolkata'; COMMIT")
  result.push(await value(one, 'SHOW TimeZone'))
  for (const client of clients) {
    await client.query('RESET ALL')
    result.push([await value(client, 'SHOW TimeZone'), await value(client, 'SHOW IntervalStyle')])
    await client.end()
  }
  return result
}

async function concurrent() {
  const ledger = `${schema}.ledger`
  return crowd(async (number, check) => {
    const zone = `Etc/GMT+${number % 12}`
    const client = await open({ application_name: `task ${number}`, options: `-c TimeZone=${zone}` })
    let committed = 0
    const count = async () => Number(await value(client, `SELECT count(*) FROM ${ledger} WHERE task = $1`, [number]))
    const insert = { name: 'insert', text: `INSERT INTO ${ledger} VALUES ($1, $2)` }
    const step = async (kind, turn) => {
      switch (kind) {
        case 0: {
          const text = 'SELECT $1::int * 2, $2::text, pg_backend_pid()'
          const answer = await client.query({ name: 'select', text, values: [number, `t${turn}`], rowMode: 'array' })
          saw(number, answer.rows[0][2])
          check('select', answer.rows[0].slice(0, 2), [number * 2, `t${turn}`])
          break
        }
        case 1:
          await client.query('BEGIN')
          await client.query({ ...insert, values: [number, turn] })
          check('own rows', await count(), ++committed)
          await client.query('COMMIT')
          break
        case 2:
          await client.query('BEGIN')
          await client.query({ ...insert, values: [number, turn] })
          await client.query('ROLLBACK')
          break
        case 3:
          check('error', await outcome(value(client, 'SELECT 1 / ($1::int - $1::int)', [number])), {
            sqlstate: '22012',
            message: 'division by zero',
          })
          break
        case 4:
          check('settings', (await rows(client, "SELECT current_setting('TimeZone'), current_setting('application_name')"))[0], [
            zone,
            `task ${number}`,
          ])
          break
        default: {
          const found = await rows(client, 'SELECT n * $1::int FROM generate_series(1, 200) AS n', [number])
          check('series', found.reduce((sum, row) => sum + row[0], 0), number * 20100)
        }
      }
    }
    const end = async () => {
      check('at the end', await count(), committed)
      await client.end()
    }
    return { step, end }
  })
}

await run({
  connect, types, prepared, ddl, transaction, cursor, copy, cancel, timeout, notices, pipeline, settings, concurrent,
})
