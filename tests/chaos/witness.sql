-- What the database itself saw, written down by triggers: the code under test has no part in it. An event says who wrote
-- it; `written` says whose lease it was at that moment. Sequence numbers only order what one entry or one asset did:
-- those are changed under a lock on the row that decides.
CREATE SCHEMA chaos;

CREATE TABLE chaos.written (execution_id bigint, seq bigint, worker_id bigint, token bigint);

CREATE FUNCTION chaos.note_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.written
    SELECT n.execution_id, n.seq, q.worker_id, q.token
      FROM new_rows n LEFT JOIN queueing_queueentry q ON q.execution_id = n.execution_id;
    RETURN NULL;
END $$;

CREATE TRIGGER chaos_written AFTER INSERT ON executions_event
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_written();
CREATE TRIGGER chaos_written AFTER INSERT ON executions_outputchunk
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_written();

-- A lease that changes hands: given, taken back, or (which must not be) given while another was still out.
CREATE TABLE chaos.lease (id bigserial, execution_id bigint, old_token bigint, new_token bigint);

CREATE FUNCTION chaos.note_lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.lease (execution_id, old_token, new_token) VALUES (NEW.execution_id, OLD.token, NEW.token);
    RETURN NULL;
END $$;

CREATE TRIGGER chaos_lease AFTER UPDATE ON queueing_queueentry FOR EACH ROW
    WHEN (OLD.token IS DISTINCT FROM NEW.token) EXECUTE FUNCTION chaos.note_lease();

-- Locks that were granted and given back.
CREATE TABLE chaos.lock (id bigserial, asset_id bigint, execution_id bigint, exclusive boolean, granted boolean);

CREATE FUNCTION chaos.note_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = 'held' AND OLD.state <> 'held' THEN
        INSERT INTO chaos.lock (asset_id, execution_id, exclusive, granted)
        VALUES (NEW.asset_id, NEW.execution_id, NEW.exclusive, true);
    ELSIF OLD.state = 'held' AND (TG_OP = 'DELETE' OR NEW.state <> 'held') THEN
        INSERT INTO chaos.lock (asset_id, execution_id, exclusive, granted)
        VALUES (OLD.asset_id, OLD.execution_id, OLD.exclusive, false);
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER chaos_lock AFTER UPDATE OR DELETE ON queueing_assetlock FOR EACH ROW EXECUTE FUNCTION chaos.note_lock();
