// The pipeline on pg-boss, woken by LISTEN/NOTIFY. A worker of its takes a batch and the next one
// when all of that is done, and goes on at once only after a full batch (burstWhenBatchFull): so a
// few workers, each with a share of the jobs at once, and with few jobs small batches.
import { PgBoss } from 'pg-boss'
import { database, makeLink, pool, ready, task } from './link.mjs'

const boss = new PgBoss({ ...database, max: task.pool, useListenNotify: true })
boss.on('error', (error) => console.error(error))
await boss.start()
await boss.createQueue('link', { notify: true })
if (task.install) {
  await boss.stop()
  ready()
  process.exit(0)
}

const pgPool = pool()
const query = (statement) => pgPool.query(statement)
// With many jobs 8 to 16 workers, with few twice as many; shares that together are the jobs at once.
let workers = task.purpose === 'burst' ? 8 : 16
const most = 2 * workers
while (workers < most && task.concurrency % workers !== 0) workers++
const batchSize = Math.max(2, Math.floor(task.concurrency / workers))
const options = {
  localConcurrency: Math.floor(task.concurrency / batchSize),
  batchSize,
  burstWhenBatchFull: true,
  perJobResults: true
}
await boss.work('link', options, (jobs) => Promise.all(jobs.map(async ({ id, data }) => {
  try {
    await makeLink(data.id, query)
    return { id, status: 'completed' }
  } catch (error) {
    console.error(error)
    return { id, status: 'failed', output: { message: error.message } }
  }
})))
ready()
