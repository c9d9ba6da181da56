-- Functions of the names that Supabase Realtime has, for messages from the database through an outbox of Fanfare.
-- The table is that of the [source.NAME] with kind = "outbox", which makes it when it connects.

CREATE SCHEMA IF NOT EXISTS realtime;

-- A broadcast to a channel, in the order of the commits. Members get its id as meta.id.
CREATE OR REPLACE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id text := gen_random_uuid()::text;
BEGIN
    INSERT INTO public.fanfare_outbox (topic, event, payload) VALUES (
        CASE WHEN send.private THEN 'private-realtime:' ELSE 'realtime:' END || send.topic,
        'broadcast:' || length(id) || ':' || id || send.event,
        (CASE WHEN send.payload ? 'id' THEN send.payload ELSE send.payload || jsonb_build_object('id', id) END)::json
    );
END
$$;

-- What has changed in a row, for a trigger FOR EACH ROW.
CREATE OR REPLACE FUNCTION realtime.broadcast_changes(
    topic_name text, event_name text, operation text, table_name text, table_schema text,
    new record, old record, level text DEFAULT 'ROW'
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF level = 'STATEMENT' THEN
        RAISE EXCEPTION 'function can only be triggered for each row, not for each statement';
    END IF;
    IF operation NOT IN ('INSERT', 'UPDATE', 'DELETE') THEN
        RAISE EXCEPTION 'unexpected operation: %', operation;
    END IF;
    PERFORM realtime.send(
        jsonb_build_object(
            'schema', table_schema, 'table', table_name, 'operation', operation,
            'record', to_jsonb(new), 'old_record', to_jsonb(old)
        ),
        event_name, topic_name
    );
END
$$;
