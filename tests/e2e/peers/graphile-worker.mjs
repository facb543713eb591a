// The pipeline on graphile-worker. Its page "Performance" recommends the local queue (one more than
// the jobs at once) and batched completion where there are many jobs; with few, the plain way has
// the lower latency.
import { EventEmitter } from 'node:events'
import { run, runMigrations, Logger } from 'graphile-worker'
import { makeLink, pool, ready, task } from './link.mjs'

const pgPool = pool()
const logger = new Logger((scope) => (level, message) => {
  if (level === 'error') console.error(message)
})
// As it comes: but for the number of jobs at once.
const recommended = {
  latency: { completeJobBatchDelay: 0, failJobBatchDelay: 0 },
  burst: {
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    localQueue: { size: task.concurrency + 1 }
  }
}

if (task.install) {
  await runMigrations({ pgPool, logger })
  ready()
  process.exit(0)
}

const events = new EventEmitter()
events.once('pool:listen:success', ready)
const query = (statement) => pgPool.query(statement)
await run({
  pgPool,
  logger,
  events,
  noHandleSignals: true,
  taskList: { link: ({ id }) => makeLink(id, query) },
  preset: {
    worker: {
      concurrentJobs: task.concurrency,
      ...recommended[task.purpose]
    }
  }
})
