-- Answers while they are written. Chunks are a preview: the commit of the turn (finish_turn) holds the whole answer. The tables
-- are UNLOGGED, so that a chunk costs no write-ahead log and no flush; a crash of the server empties them, and readers who miss
-- a number wait for the committed answer.

-- What was said so far in an attempt of a turn, numbered from 1. content null: the chunks before it do not count.
CREATE UNLOGGED TABLE response_chunks (
    request_id text NOT NULL,
    attempt    integer NOT NULL,
    seq        integer NOT NULL,
    content    text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT response_chunks_id PRIMARY KEY (request_id, attempt, seq)
);
CREATE INDEX response_chunks_age ON response_chunks (created_at);

-- Which requests somebody follows. Notifying takes a lock that every commit that notifies waits for, so a chunk that nobody
-- waits for notifies nobody.
CREATE UNLOGGED TABLE response_readers (
    request_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT response_readers_id PRIMARY KEY (request_id)
);
CREATE INDEX response_readers_age ON response_readers (created_at);

-- agent-invoke: write chunks of any number of turns, and wake those who follow them.
CREATE FUNCTION append_chunks(p jsonb) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_woken bigint;
BEGIN
    INSERT INTO response_chunks (request_id, attempt, seq, content)
    SELECT c.request_id, c.attempt, c.seq, c.content
    FROM jsonb_to_recordset(p) AS c (request_id text, attempt integer, seq integer, content text)
    ON CONFLICT DO NOTHING;
    SELECT count(pg_notify('chunks', r.request_id)) INTO v_woken
    FROM response_readers r
    WHERE r.request_id IN (SELECT c ->> 'request_id' FROM jsonb_array_elements(p) c);
    RETURN v_woken;
END
$$;

-- request-status: somebody follows this request from now on.
CREATE FUNCTION follow_request(p_request_id text) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO response_readers AS r (request_id) VALUES (p_request_id)
    ON CONFLICT (request_id) DO UPDATE SET created_at = now()
$$;

-- session-sweep: delete the chunks and the readers of turns that ended long ago; at most so many that it is short.
CREATE FUNCTION drop_chunks(p_kept interval) RETURNS bigint
LANGUAGE sql AS $$
    WITH chunks AS (
        DELETE FROM response_chunks c USING (
            SELECT request_id, attempt, seq FROM response_chunks WHERE created_at < now() - p_kept
            ORDER BY created_at LIMIT 20000 FOR UPDATE SKIP LOCKED) old
        WHERE (c.request_id, c.attempt, c.seq) = (old.request_id, old.attempt, old.seq) RETURNING 1),
    readers AS (
        DELETE FROM response_readers r USING (
            SELECT request_id FROM response_readers WHERE created_at < now() - p_kept
            ORDER BY created_at LIMIT 20000 FOR UPDATE SKIP LOCKED) old
        WHERE r.request_id = old.request_id RETURNING 1)
    SELECT (SELECT count(*) FROM chunks) + (SELECT count(*) FROM readers)
$$;
