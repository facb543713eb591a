// What a link takes, whichever queue brings the session's id: read, decrypt, ask the provider,
// write back. The requests are those that meetlink sends.
import { createDecipheriv } from 'node:crypto'
import pg from 'pg'
import { Pool as Connections } from 'undici'

export const task = JSON.parse(process.env.PEER)

// Ends with the benchmark, also when that is killed.
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))

export function ready () {
  process.stdout.write('ready\n')
}

/** PostgreSQL, over its socket. */
export const database = {
  host: task.socket,
  port: task.port,
  user: 'postgres',
  database: task.database,
  application_name: `peer ${process.pid}`
}

/** Enough for the statements that are under way at once; far fewer than jobs, which mostly wait. */
export function pool () {
  const pool = new pg.Pool({ ...database, max: task.pool, idleTimeoutMillis: 0 })
  pool.on('error', (error) => console.error(error))
  pool.on('connect', (client) => client.on('error', (error) => console.error(error)))
  return pool
}

const keys = new Map(Object.entries(task.keys).map(([id, hex]) => [id, Buffer.from(hex, 'hex')]))

function decrypt (envelope, tutor, provider) {
  const [version, key, nonce, sealed] = envelope.split('.')
  if (version !== 'ml1') throw new Error('an envelope of another kind')
  const bytes = Buffer.from(sealed, 'base64url')
  const cipher = createDecipheriv('aes-256-gcm', keys.get(key), Buffer.from(nonce, 'base64url'))
  cipher.setAAD(Buffer.from(`meetlink|${tutor}|${provider}|access`))
  cipher.setAuthTag(bytes.subarray(-16))
  return cipher.update(bytes.subarray(0, -16), undefined, 'utf8') + cipher.final('utf8')
}

const utc = (date) => date.toISOString().slice(0, 19) + 'Z'
const marker = (id) => `meetlink:${id}`

const PROVIDERS = {
  zoom: {
    base: task.zoom_api_url,
    path: '/users/me/meetings',
    body: (s) => ({
      topic: s.title,
      type: 2,
      start_time: utc(s.starts),
      duration: s.minutes,
      timezone: 'UTC',
      agenda: `Made for a booked tutoring session (${marker(s.id)}).`
    }),
    link: (answer) => [String(answer.id), answer.join_url]
  },
  google_meet: {
    base: task.google_api_url,
    path: '/calendars/primary/events?conferenceDataVersion=1&sendUpdates=none',
    body: (s) => {
      const id = `ml${s.id.replaceAll('-', '')}g0`
      return {
        id,
        summary: s.title,
        description: `Made for a booked tutoring session (${marker(s.id)}).`,
        start: { dateTime: utc(s.starts), timeZone: 'UTC' },
        end: { dateTime: utc(s.ends), timeZone: 'UTC' },
        conferenceData: {
          createRequest: {
            requestId: `${id}-0`,
            conferenceSolutionKey: { type: 'hangoutsMeet' }
          }
        }
      }
    },
    link: (answer) => [answer.id, answer.hangoutLink]
  }
}
// Kept alive, one request at a time on each, as many as jobs at once.
for (const provider of Object.values(PROVIDERS)) {
  const url = new URL(provider.base)
  provider.path = url.pathname + provider.path
  provider.connections = new Connections(url.origin, {
    connections: task.concurrency,
    pipelining: 1,
    keepAliveTimeout: 600_000
  })
}

const READ = `
  SELECT s.id, s.tutor_id AS tutor, s.scheduled_start_at AS starts, s.scheduled_end_at AS ends,
         s.duration_minutes AS minutes, c.provider, c.access_token_encrypted AS token,
         'Tutoring session: ' || t.full_name || ' and ' || p.full_name AS title
    FROM sessions s
    JOIN tutor_video_provider_connections c ON c.tutor_id = s.tutor_id AND c.is_active
    JOIN profiles t ON t.id = s.tutor_id
    JOIN profiles p ON p.id = s.student_id
   WHERE s.id = $1 AND s.join_url IS NULL AND s.status IN ('SCHEDULED', 'JOIN_OPEN')
     AND c.connection_status = 'connected' AND c.token_expires_at > now()`

const WRITE = `
  UPDATE sessions
     SET join_url = $2, meeting_external_id = $3, meeting_created_at = now(), provider = $4
   WHERE id = $1 AND join_url IS NULL`

/** Makes the link of one session; `query` runs a prepared statement on a pooled connection. */
export async function makeLink (id, query) {
  const { rows: [session] } = await query({ name: 'read', text: READ, values: [id] })
  if (!session) throw new Error(`session ${id} wants no link, or its tutor must connect`)
  const provider = PROVIDERS[session.provider]
  const answer = await provider.connections.request({
    method: 'POST',
    path: provider.path,
    headers: {
      authorization: `Bearer ${decrypt(session.token, session.tutor, session.provider)}`,
      'content-type': 'application/json',
      accept: 'application/json'
    },
    body: JSON.stringify(provider.body(session))
  })
  const body = await answer.body.json()
  if (answer.statusCode > 299) throw new Error(`the provider answers ${answer.statusCode}`)
  const [external, url] = provider.link(body)
  if (!url) throw new Error('an answer without a link')
  await query({ name: 'write', text: WRITE, values: [id, url, external, session.provider] })
}
