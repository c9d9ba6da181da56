CREATE TABLE IF NOT EXISTS fanfare_outbox_table (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    event text NOT NULL,
    payload json NOT NULL DEFAULT '{}',
    inserted_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX ON fanfare_outbox_table (id) WHERE published_at IS NULL;
CREATE OR REPLACE FUNCTION fanfare_outbox_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER fanfare_outbox_tell AFTER INSERT ON fanfare_outbox_table
    FOR EACH STATEMENT EXECUTE FUNCTION fanfare_outbox_tell('fanfare_outbox_channel');
