package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

func sortXComs(xs []airflow.XCom) {
	sort.Slice(xs, func(i, j int) bool { return xs[i].Key < xs[j].Key })
}

func namedKey(kind, name string) kv.Key { return kv.Key{PK: joinKey(kind, name), SK: skMeta} }

// PutPool creates or replaces a pool.
func (s *Store) PutPool(ctx context.Context, p airflow.Pool) error {
	return s.putDoc(ctx, namedKey(kindPool, p.Name), p, listed(kindPool, joinKey(p.Name)))
}

// GetPool returns a pool, or ErrNotFound.
func (s *Store) GetPool(ctx context.Context, name string) (airflow.Pool, error) {
	var p airflow.Pool
	_, err := s.getDoc(ctx, namedKey(kindPool, name), &p)
	return p, err
}

// DeletePool removes a pool. The default pool stays: ErrNotAllowed.
func (s *Store) DeletePool(ctx context.Context, name string) error {
	if name == airflow.DefaultPool {
		return fmt.Errorf("%w: %s cannot be deleted", airflow.ErrNotAllowed, name)
	}
	return s.deleteDoc(ctx, namedKey(kindPool, name))
}

// ListPools lists pools by name.
func (s *Store) ListPools(ctx context.Context) ([]airflow.Pool, error) {
	ps, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindPool), ListOptions{}, docReader[airflow.Pool])
	return ps, err
}

// seal encrypts a secret document for its item; open is the inverse.
func (s *Store) seal(key kv.Key, v any) ([]byte, error) {
	if s.sealer == nil {
		return nil, errors.New("store: no key to encrypt secrets with was configured")
	}
	return s.sealer.Seal(marshal(v), []byte(key.PK))
}

func (s *Store) open(it kv.Item, dst any) error {
	if err := checkFormat(it); err != nil {
		return err
	}
	if s.sealer == nil {
		return errors.New("store: no key to decrypt secrets with was configured")
	}
	plain, err := s.sealer.Open(it.Bytes(attrDoc), []byte(it.PK))
	if err != nil {
		return fmt.Errorf("store: %v cannot be decrypted: the key of this home is not the one it was encrypted with: %w", it.Key, err)
	}
	return json.Unmarshal(plain, dst)
}

// keyAge is a Sealer whose key can be replaced while it is used.
type keyAge interface {
	// Current reports whether a ciphertext was made with the present key.
	Current(ciphertext []byte) bool
}

func putSealed[T any](ctx context.Context, s *Store, kind, name string, v T) error {
	key := namedKey(kind, name)
	cond := kv.Cond{}
	for range UpdateAttempts {
		sealed, err := s.seal(key, v)
		if err != nil {
			return err
		}
		err = s.kv.Write(ctx, kv.Put(entity(key, sealed, listed(kind, joinKey(name))), cond))
		if cond.Op != kv.CondAlways && errors.Is(err, kv.ErrConditionFailed) {
			return nil // somebody has replaced or removed it since
		}
		if err != nil {
			return translate(err)
		}
		k, ok := s.sealer.(keyAge)
		if !ok || k.Current(sealed) {
			return nil
		}
		// A rotation has passed by since the value was encrypted, and may remove the
		// key that it was encrypted with.
		cond = kv.Eq(attrDoc, kv.Bytes(sealed))
	}
	return fmt.Errorf("%w: the key is replaced all the time", airflow.ErrConflict)
}

// reseal encrypts one secret again. It never replaces a value that somebody has
// written meanwhile, nor brings back one that was deleted.
func (s *Store) reseal(ctx context.Context, key kv.Key) error {
	for range UpdateAttempts {
		it, err := s.kv.Get(ctx, key, true)
		if errors.Is(err, kv.ErrNotFound) {
			return nil
		}
		if err != nil {
			return translate(err)
		}
		var plain json.RawMessage
		if err := s.open(it, &plain); err != nil {
			return err
		}
		old := it.Attrs[attrDoc]
		sealed, err := s.sealer.Seal(plain, []byte(key.PK))
		if err != nil {
			return err
		}
		it.Attrs[attrDoc] = kv.Bytes(sealed)
		err = s.kv.Write(ctx, kv.Put(it, kv.Eq(attrDoc, old)))
		if !errors.Is(err, kv.ErrConditionFailed) {
			return translate(err)
		}
	}
	return fmt.Errorf("%w: %v is written all the time", airflow.ErrConflict, key)
}

func getSealed[T any](ctx context.Context, s *Store, kind, name string) (T, error) {
	var v T
	it, err := s.kv.Get(ctx, namedKey(kind, name), true)
	if err != nil {
		return v, translate(err)
	}
	return v, s.open(it, &v)
}

func listSealed[T any](ctx context.Context, s *Store, kind string) ([]T, error) {
	vs, _, err := listIndex(ctx, s, kv.GSI1, allOf(kind), ListOptions{}, func(it kv.Item) (T, error) {
		var v T
		return v, s.open(it, &v)
	})
	return vs, err
}

// PutVariable creates or replaces a variable, encrypted.
func (s *Store) PutVariable(ctx context.Context, v airflow.Variable) error {
	return putSealed(ctx, s, kindVariable, v.Key, v)
}

// GetVariable returns a variable, or ErrNotFound.
func (s *Store) GetVariable(ctx context.Context, key string) (airflow.Variable, error) {
	return getSealed[airflow.Variable](ctx, s, kindVariable, key)
}

// DeleteVariable removes a variable, or ErrNotFound.
func (s *Store) DeleteVariable(ctx context.Context, key string) error {
	return s.deleteDoc(ctx, namedKey(kindVariable, key))
}

// ListVariables lists variables by key.
func (s *Store) ListVariables(ctx context.Context) ([]airflow.Variable, error) {
	return listSealed[airflow.Variable](ctx, s, kindVariable)
}

// PutConnection creates or replaces a connection, encrypted.
func (s *Store) PutConnection(ctx context.Context, c airflow.Connection) error {
	return putSealed(ctx, s, kindConnection, c.ConnID, c)
}

// GetConnection returns a connection, or ErrNotFound.
func (s *Store) GetConnection(ctx context.Context, id string) (airflow.Connection, error) {
	return getSealed[airflow.Connection](ctx, s, kindConnection, id)
}

// DeleteConnection removes a connection, or ErrNotFound.
func (s *Store) DeleteConnection(ctx context.Context, id string) error {
	return s.deleteDoc(ctx, namedKey(kindConnection, id))
}

// ListConnections lists connections by id.
func (s *Store) ListConnections(ctx context.Context) ([]airflow.Connection, error) {
	return listSealed[airflow.Connection](ctx, s, kindConnection)
}

// ResealSecrets encrypts every variable, every connection and the keys of tokens
// again with the sealer's present key, after a rotation. It may be interrupted and
// repeated. It returns how many were written.
func (s *Store) ResealSecrets(ctx context.Context) (int, error) {
	n := 0
	for _, kind := range []string{kindVariable, kindConnection, kindAuthKeys} {
		keys, _, err := listIndex(ctx, s, kv.GSI1, allOf(kind), ListOptions{}, func(it kv.Item) (kv.Key, error) { return it.Key, nil })
		if err != nil {
			return n, err
		}
		for _, key := range keys {
			if err := s.reseal(ctx, key); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}

func backfillKey(id int64) kv.Key {
	return kv.Key{PK: joinKey(kindBackfill, fmt.Sprintf("%019d", id)), SK: skMeta}
}

func backfillIndex(b airflow.Backfill) map[kv.IndexName]kv.Key {
	ix := listed(kindBackfill, fmt.Sprintf("%019d", b.ID))
	if b.CompletedAt == nil {
		ix[kv.GSI2] = kv.Key{PK: joinKey("ACTIVE", kindBackfill), SK: joinKey(string(b.DagID), fmt.Sprintf("%019d", b.ID))}
	}
	return ix
}

// CreateBackfill stores a new backfill under the next free id, which it returns.
func (s *Store) CreateBackfill(ctx context.Context, b airflow.Backfill) (airflow.Backfill, error) {
	for {
		page, err := s.kv.Query(ctx, kv.Query{Index: kv.GSI1, PK: allOf(kindBackfill), Descending: true, Limit: 1})
		if err != nil {
			return b, translate(err)
		}
		if b.ID == 0 {
			b.ID = 1
		}
		if len(page.Items) > 0 {
			var last airflow.Backfill
			if _, err := s.getDoc(ctx, page.Items[0].Key, &last); err != nil {
				return b, err
			}
			b.ID = max(b.ID, last.ID+1)
		}
		err = s.createDoc(ctx, backfillKey(b.ID), b, backfillIndex(b))
		if !errors.Is(err, airflow.ErrAlreadyExists) {
			return b, err
		}
		b.ID++ // taken meanwhile, or the index is behind
	}
}

// GetBackfill returns a backfill, or ErrNotFound.
func (s *Store) GetBackfill(ctx context.Context, id int64) (airflow.Backfill, error) {
	var b airflow.Backfill
	_, err := s.getDoc(ctx, backfillKey(id), &b)
	return b, err
}

// UpdateBackfill changes a backfill.
func (s *Store) UpdateBackfill(ctx context.Context, id int64, change func(*airflow.Backfill) error) (airflow.Backfill, error) {
	return update(ctx, s, backfillKey(id), backfillIndex, change)
}

// ListBackfills lists backfills by id, newest first.
func (s *Store) ListBackfills(ctx context.Context) ([]airflow.Backfill, error) {
	bs, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindBackfill), ListOptions{Descending: true}, docReader[airflow.Backfill])
	return bs, err
}

// ListActiveBackfills lists the backfills that are not completed, by DAG and id.
func (s *Store) ListActiveBackfills(ctx context.Context) ([]airflow.Backfill, error) {
	bs, _, err := listIndex(ctx, s, kv.GSI2, joinKey("ACTIVE", kindBackfill), ListOptions{}, docReader[airflow.Backfill])
	return bs, err
}

// AuditEvent is one entry of the audit log.
type AuditEvent struct {
	ID     string         `json:"id"`
	When   time.Time      `json:"when"`
	Event  string         `json:"event"`
	Owner  string         `json:"owner"`
	DagID  airflow.DagID  `json:"dag_id,omitempty"`
	RunID  airflow.RunID  `json:"run_id,omitempty"`
	TaskID airflow.TaskID `json:"task_id,omitempty"`
	// MapIndex and TryNumber are nil where the event is not about one instance.
	MapIndex  *int `json:"map_index,omitempty"`
	TryNumber *int `json:"try_number,omitempty"`
	// Source is where the change came from: a network address, "" for this machine.
	Source string `json:"source,omitempty"`
	// Extra is an object, or a text that holds one as the API shows it.
	Extra json.RawMessage `json:"extra,omitempty"`
}

// PutAudit appends to the audit log; the event's id makes a repetition harmless.
func (s *Store) PutAudit(ctx context.Context, e AuditEvent) error {
	return s.putDoc(ctx, namedKey(kindAudit, e.ID), e, listed(kindAudit, joinKey(sortableTime(e.When), e.ID)))
}

// ListAudit lists the audit log; o.Descending gives the newest first.
func (s *Store) ListAudit(ctx context.Context, o ListOptions) ([]AuditEvent, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kindAudit), o, docReader[AuditEvent])
}

// PendingEffect is an effect (a callback) that a committed step asks for. It is
// written with the step and removed when the effect was carried out, so that a
// crash in between repeats it.
type PendingEffect struct {
	ID   string          `json:"id"`
	Run  RunKey          `json:"run"`
	Kind string          `json:"kind"`
	Doc  json.RawMessage `json:"doc,omitempty"`
	When time.Time       `json:"when"`
}

func (p PendingEffect) op() kv.Op {
	return kv.Put(entity(namedKey(kindEffect, "pending#"+p.ID), marshal(p), listed(kindEffect, joinKey(p.ID))), kv.Cond{})
}

// ListPendingEffects lists the effects that were not carried out yet, by id.
func (s *Store) ListPendingEffects(ctx context.Context) ([]PendingEffect, error) {
	ps, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindEffect), ListOptions{}, docReader[PendingEffect])
	return ps, err
}

// GetPendingEffect returns an effect that was not carried out yet, or ErrNotFound.
func (s *Store) GetPendingEffect(ctx context.Context, id string) (PendingEffect, error) {
	var p PendingEffect
	_, err := s.getDoc(ctx, namedKey(kindEffect, "pending#"+id), &p)
	return p, err
}

// DeletePendingEffect forgets an effect that was carried out; absent is fine.
func (s *Store) DeletePendingEffect(ctx context.Context, id string) error {
	return translate(s.kv.Write(ctx, kv.Delete(namedKey(kindEffect, "pending#"+id), kv.Cond{})))
}

// DropPendingEffect forgets an effect of a run that is not wanted any more, without
// a record that it was carried out: asked for once more, it is due again. Nothing
// happens if unwanted says no of the run, or the run changes meanwhile.
func (s *Store) DropPendingEffect(ctx context.Context, k RunKey, id string, unwanted func(airflow.DagRun) bool) error {
	var r airflow.DagRun
	it, err := s.getDoc(ctx, infoKey(k), &r)
	if errors.Is(err, airflow.ErrNotFound) {
		return s.DeletePendingEffect(ctx, id)
	}
	if err != nil || !unwanted(r) {
		return err
	}
	err = s.kv.Transact(ctx, "", []kv.Op{
		kv.Check(infoKey(k), kv.Eq(attrVersion, kv.Int(it.Int(attrVersion)))),
		kv.Delete(namedKey(kindEffect, "pending#"+id), kv.Cond{}),
	})
	if errors.Is(err, kv.ErrConditionFailed) {
		return nil
	}
	return translate(err)
}

func doneKey(k RunKey, id string) kv.Key { return kv.Key{PK: runPK(k), SK: joinKey(skDone, id)} }

// DoneEffect reports whether an effect (a callback, say) of a run was carried
// out, and MarkEffect records that it was: effects run at least once and are
// skipped when they are found recorded. The record belongs to the run: one that
// is deleted and made again under its id has nothing carried out yet.
func (s *Store) DoneEffect(ctx context.Context, k RunKey, id string) (bool, error) {
	_, err := s.kv.Get(ctx, doneKey(k, id), true)
	if errors.Is(err, kv.ErrNotFound) {
		return false, nil
	}
	return err == nil, translate(err)
}

// MarkEffect records an effect as carried out; the record expires at until.
func (s *Store) MarkEffect(ctx context.Context, k RunKey, id string, until time.Time) error {
	it := entity(doneKey(k, id), []byte("{}"), nil)
	it.ExpiresAt = until.Unix()
	return translate(s.kv.Write(ctx, kv.Put(it, kv.Cond{})))
}

// ReserveRequest binds a request to the run id it creates: the first caller's
// choice stays, every caller gets it back.
func (s *Store) ReserveRequest(ctx context.Context, id string, runID airflow.RunID, until time.Time) (airflow.RunID, error) {
	it := entity(namedKey(kindEffect, "request#"+id), marshal(logicalDateDoc{runID}), nil)
	it.ExpiresAt = until.Unix()
	err := s.kv.Write(ctx, kv.Put(it, kv.NotExists()))
	if have, failed := failedItem(err); failed && have != nil {
		var d logicalDateDoc
		err := decode(*have, &d)
		return d.RunID, err
	}
	return runID, translate(err)
}
