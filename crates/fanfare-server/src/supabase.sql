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

-- Bytes instead of an object. Clients of protocol version 1.0.0 do not get them.
CREATE OR REPLACE FUNCTION realtime.send_binary(payload bytea, event text, topic text, private boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id text := gen_random_uuid()::text;
BEGIN
    INSERT INTO public.fanfare_outbox (topic, event, payload) VALUES (
        CASE WHEN send_binary.private THEN 'private-realtime:' ELSE 'realtime:' END || send_binary.topic,
        'broadcast:' || length(id) || ':' || id || send_binary.event,
        to_json('\x' || encode(send_binary.payload, 'hex'))
    );
END
$$;

-- What has changed in a row, for those who listen to postgres_changes: a trigger AFTER INSERT OR UPDATE OR DELETE … FOR EACH ROW.
-- Without an argument it takes the outbox. With one it sends by NOTIFY on the channel of that name, where a change of 8,000
-- bytes and more comes without its rows.
CREATE OR REPLACE FUNCTION realtime.row_changed()
RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    topic text := 'postgres_changes:' || TG_TABLE_SCHEMA || ':' || TG_TABLE_NAME;
    change jsonb := jsonb_build_object(
        'schema', TG_TABLE_SCHEMA, 'table', TG_TABLE_NAME, 'type', TG_OP, 'errors', NULL,
        'commit_timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'columns', (
            SELECT jsonb_agg(jsonb_build_object('name', attname, 'type', typname) ORDER BY attnum)
            FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
            WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped
        )
    );
    row_parts jsonb := '{}';
    told text;
BEGIN
    IF TG_OP <> 'DELETE' THEN
        row_parts := row_parts || jsonb_build_object('record', to_jsonb(NEW));
    END IF;
    IF TG_OP <> 'INSERT' THEN
        row_parts := row_parts || jsonb_build_object('old_record', to_jsonb(OLD));
    END IF;
    IF TG_NARGS = 0 THEN
        INSERT INTO public.fanfare_outbox (topic, event, payload) VALUES (topic, TG_OP, (change || row_parts)::json);
        RETURN NULL;
    END IF;
    told := jsonb_build_object('topic', topic, 'event', TG_OP, 'payload', change || row_parts);
    IF octet_length(told) >= 8000 THEN
        change := change || jsonb_build_object(
            CASE TG_OP WHEN 'DELETE' THEN 'old_record' ELSE 'record' END, '{}'::jsonb,
            'errors', '["Error 413: Payload Too Large"]'::jsonb
        );
        told := jsonb_build_object('topic', topic, 'event', TG_OP, 'payload', change);
    END IF;
    PERFORM pg_notify(TG_ARGV[0], told);
    RETURN NULL;
END
$$;
