package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// RunKey identifies a DagRun.
type RunKey struct {
	DagID airflow.DagID
	RunID airflow.RunID
}

// String returns dag/run.
func (k RunKey) String() string { return string(k.DagID) + "/" + string(k.RunID) }

func infoKey(k RunKey) kv.Key { return kv.Key{PK: runPK(k), SK: skInfo} }
func metaKey(k RunKey) kv.Key { return kv.Key{PK: runPK(k), SK: skMeta} }

// activePK lists the unfinished runs. One partition suffices: it changes twice per run.
var activePK = joinKey("ACTIVE", kindRun)

func runsOfDAG(dag airflow.DagID) string { return joinKey("RUNS", string(dag)) }

// runIndex lists a run under its DAG by run_after, and among the unfinished.
func runIndex(r airflow.DagRun) map[kv.IndexName]kv.Key {
	ix := map[kv.IndexName]kv.Key{
		kv.GSI1: {PK: runsOfDAG(r.DagID), SK: joinKey(sortableTime(r.RunAfter), string(r.RunID))},
	}
	if !r.State.Finished() {
		ix[kv.GSI2] = kv.Key{PK: activePK, SK: joinKey(string(r.DagID), string(r.RunID))}
	}
	return ix
}

func runKeyOf(r airflow.DagRun) RunKey { return RunKey{r.DagID, r.RunID} }

type logicalDateDoc struct {
	RunID airflow.RunID `json:"run_id"`
}

// CreateRun creates a run: its INFO item and, if it has a logical date, the
// item that makes (dag, logical date) unique, in one transaction: a date that
// was taken without a run would keep its scheduled run from ever being made. A
// run with the same id, or another run of the same logical date, is
// ErrAlreadyExists; so is the run itself when a call is repeated.
func (s *Store) CreateRun(ctx context.Context, r airflow.DagRun) error {
	info := kv.Put(versioned(infoKey(runKeyOf(r)), marshal(r), 1, runIndex(r)), kv.NotExists())
	if r.LogicalDate == nil {
		err := s.kv.Write(ctx, info)
		if errors.Is(err, kv.ErrConditionFailed) {
			return fmt.Errorf("%w: run %s", airflow.ErrAlreadyExists, runKeyOf(r))
		}
		return translate(err)
	}
	date := kv.Put(entity(kv.Key{PK: runLDPK(r.DagID, *r.LogicalDate), SK: skMeta}, marshal(logicalDateDoc{r.RunID}), aheadIndex(r)), kv.NotExists())
	err := s.kv.Transact(ctx, "", []kv.Op{date, info})
	var cancelled *kv.CancelError
	if !errors.As(err, &cancelled) || !errors.Is(err, kv.ErrConditionFailed) {
		return translate(err)
	}
	if it, failed := failedItem(err); failed && it != nil && cancelled.Op == 0 {
		var ld logicalDateDoc
		if err := decode(*it, &ld); err != nil {
			return err
		}
		if ld.RunID != r.RunID {
			return fmt.Errorf("%w: DAG %q has a run of logical date %s: %q", airflow.ErrAlreadyExists, r.DagID, r.LogicalDate.Format(time.RFC3339Nano), ld.RunID)
		}
	}
	return fmt.Errorf("%w: run %s", airflow.ErrAlreadyExists, runKeyOf(r))
}

func runsAhead(dag airflow.DagID) string { return joinKey("AHEAD", string(dag)) }

// aheadIndex lists a run whose logical date lies after its run_after, as of one
// started by hand for a date to come, by logical date: in the list of a DAG's
// runs by run_after it stands where nobody looks for that date.
func aheadIndex(r airflow.DagRun) map[kv.IndexName]kv.Key {
	if !r.RunAfter.Before(*r.LogicalDate) {
		return nil
	}
	return map[kv.IndexName]kv.Key{kv.GSI1: {PK: runsAhead(r.DagID), SK: joinKey(sortableTime(*r.LogicalDate), string(r.RunID))}}
}

// RunsAhead lists the runs of a DAG whose logical date lies after their run_after
// and before a time, latest logical date first, until f returns false.
func (s *Store) RunsAhead(ctx context.Context, dag airflow.DagID, before time.Time, f func(airflow.RunID) bool) error {
	o := ListOptions{To: sortableTime(before), Descending: true, Limit: 20}
	for {
		dates, cursor, err := listIndex(ctx, s, kv.GSI1, runsAhead(dag), o, docReader[logicalDateDoc])
		if err != nil {
			return err
		}
		for _, d := range dates {
			if !f(d.RunID) {
				return nil
			}
		}
		if cursor == "" {
			return nil
		}
		o.Cursor = cursor
	}
}

// RunOfLogicalDate returns the id of the run that holds a logical date, or ErrNotFound.
func (s *Store) RunOfLogicalDate(ctx context.Context, dag airflow.DagID, logicalDate time.Time) (airflow.RunID, error) {
	var ld logicalDateDoc
	_, err := s.getDoc(ctx, kv.Key{PK: runLDPK(dag, logicalDate), SK: skMeta}, &ld)
	return ld.RunID, err
}

// GetRun returns a run, or ErrNotFound.
func (s *Store) GetRun(ctx context.Context, k RunKey) (airflow.DagRun, error) {
	var r airflow.DagRun
	_, err := s.getDoc(ctx, infoKey(k), &r)
	return r, err
}

// ReadRun is GetRun for who may update the run.
func (s *Store) ReadRun(ctx context.Context, k RunKey) (Known[airflow.DagRun], error) {
	return known[airflow.DagRun](ctx, s, infoKey(k))
}

// CreatedRun is what is known of a run that CreateRun has just made.
func CreatedRun(r airflow.DagRun) Known[airflow.DagRun] { return Known[airflow.DagRun]{r, 1} }

// UpdateRunFrom is UpdateRun for who has read or created the run.
func (s *Store) UpdateRunFrom(ctx context.Context, k RunKey, have Known[airflow.DagRun], change func(*airflow.DagRun) error) (airflow.DagRun, error) {
	return updateFrom(ctx, s, infoKey(k), have, runIndex, change)
}

// UpdateRun changes a run's INFO item; see update for conflicts. Identity and
// run_after must not change.
func (s *Store) UpdateRun(ctx context.Context, k RunKey, change func(*airflow.DagRun) error) (airflow.DagRun, error) {
	return update(ctx, s, infoKey(k), runIndex, change)
}

// ListRuns lists the runs of a DAG by run_after. From and To of o are texts made
// by RunsFrom and RunsUntil.
func (s *Store) ListRuns(ctx context.Context, dag airflow.DagID, o ListOptions) ([]airflow.DagRun, string, error) {
	return listIndex(ctx, s, kv.GSI1, runsOfDAG(dag), o, docReader[airflow.DagRun])
}

// RunsFrom is the lower bound of a list of runs with run_after >= t.
func RunsFrom(t time.Time) string { return sortableTime(t) }

// RunsUntil is the upper bound of a list of runs with run_after <= t.
func RunsUntil(t time.Time) string { return afterPrefix(sortableTime(t)) }

// ListActiveRuns lists the unfinished runs of all DAGs, or of one (dag != "").
func (s *Store) ListActiveRuns(ctx context.Context, dag airflow.DagID) ([]airflow.DagRun, error) {
	o := ListOptions{}
	if dag != "" {
		p := joinKey(string(dag)) + "#"
		o.From, o.To = p, afterPrefix(p)
	}
	runs, _, err := listIndex(ctx, s, kv.GSI2, activePK, o, docReader[airflow.DagRun])
	return runs, err
}

// RunState is a run's scheduling state as the core encoded it.
type RunState struct {
	// Version counts the committed steps; 0 means that no step was committed yet.
	Version int64
	Header  []byte
	// Chunks hold the task instances, in order. Of a small run they live inside META.
	Chunks [][]byte
	// ChunkVersions are the versions at which the chunks were last written: under
	// one version a chunk has one content. nil of a run that is one item.
	ChunkVersions []int64
	// Wake is the time for which the run's timer is set, to the millisecond; zero
	// if none is, or if its scheduler keeps timers in memory.
	Wake time.Time
	// Deleting says that a deletion has begun (BeginDeleteRun): nothing may be
	// committed any more. Header is nil if the run never had a state.
	Deleting bool
}

// RunCommit is a step to be written.
type RunCommit struct {
	// Base is the version the step was decided on.
	Base   int64
	Header []byte
	// Chunks are all chunks; those not dirty may be nil once the run is wide.
	Chunks [][]byte
	// Dirty are the indexes of the chunks that changed.
	Dirty []int
	// ChunkVersions are those of the state that the step was decided on.
	ChunkVersions []int64
	// Effects are recorded as pending in the same transaction.
	Effects []PendingEffect
	// Wake is kept for RunState.Wake.
	Wake time.Time
}

// inlineBytes bounds META so that a small run stays one item; beyond it chunks
// become items of their own.
const inlineBytes = 6 << 10

// LoadRunState returns a run's state. A run without one (no step was committed
// yet) has Version 0 and no error. ErrThrottled: a wide run is stepped so fast
// that no whole state was read.
func (s *Store) LoadRunState(ctx context.Context, k RunKey) (RunState, error) {
	return s.LoadRunStateSince(ctx, k, RunState{})
}

// LoadRunStateSince is LoadRunState for who has an earlier state of the run: of a
// wide one it reads the chunks that have changed since.
func (s *Store) LoadRunStateSince(ctx context.Context, k RunKey, have RunState) (RunState, error) {
	for range loadAttempts {
		if st, whole, err := s.loadRunState(ctx, k, have); err != nil || whole {
			return st, err
		}
	}
	return RunState{}, fmt.Errorf("%w: run %s is stepped faster than it can be read", airflow.ErrThrottled, k)
}

// loadRunState reads a run's state; whole is false if a step was committed meanwhile.
func (s *Store) loadRunState(ctx context.Context, k RunKey, have RunState) (_ RunState, whole bool, _ error) {
	it, err := s.get(ctx, metaKey(k))
	if errors.Is(err, kv.ErrNotFound) {
		return RunState{}, true, nil
	}
	if err != nil {
		return RunState{}, false, translate(err)
	}
	if err := checkFormat(it); err != nil {
		return RunState{}, false, err
	}
	st := RunState{Version: it.Int(attrVersion), Deleting: it.Int(attrDeleting) != 0}
	if ms := it.Int(attrWake); ms != 0 {
		st.Wake = time.UnixMilli(ms).UTC()
	}
	n := int(it.Int(attrChunks))
	if n == 0 {
		if st.Deleting && len(it.Bytes(attrDoc)) == 0 {
			return st, true, nil
		}
		st.Header, st.Chunks, err = splitInline(it.Bytes(attrDoc))
		if err != nil {
			return RunState{}, false, fmt.Errorf("%w: %v: %w", kv.ErrCorrupt, it.Key, err)
		}
		return st, true, nil
	}
	st.Header = it.Bytes(attrDoc)
	if st.ChunkVersions, err = chunkVersions(it, n); err != nil {
		return RunState{}, false, err
	}
	st.Chunks = make([][]byte, n)
	var keys []kv.Key
	var at []int
	for i := range n {
		if i < len(have.ChunkVersions) && have.ChunkVersions[i] == st.ChunkVersions[i] && have.Chunks[i] != nil {
			st.Chunks[i] = have.Chunks[i]
			continue
		}
		keys, at = append(keys, kv.Key{PK: runPK(k), SK: chunkSK(i)}), append(at, i)
	}
	if len(keys) == 0 {
		return st, true, nil
	}
	items, err := s.kv.BatchGet(ctx, keys, true)
	if err != nil {
		return RunState{}, false, translate(err)
	}
	for j, key := range keys {
		c, ok := items[key]
		if !ok {
			return RunState{}, false, fmt.Errorf("%w: chunk %v is missing", kv.ErrCorrupt, key)
		}
		st.Chunks[at[j]] = c.Bytes(attrDoc)
	}
	// META and chunks are written in one transaction, but read one after the
	// other: a step in between shows in META's version.
	again, err := s.kv.Get(ctx, metaKey(k), true)
	if err != nil {
		return RunState{}, false, translate(err)
	}
	if again.Int(attrVersion) != st.Version {
		return RunState{}, false, nil
	}
	return st, true, nil
}

// chunkVersions reads the versions of a wide run's chunks, each as how far it is
// behind META's. META of an earlier program has none: then all count as written
// with it.
func chunkVersions(it kv.Item, n int) ([]int64, error) {
	out := make([]int64, n)
	b := it.Bytes(attrChunkVersions)
	for i := range out {
		out[i] = it.Int(attrVersion)
		if !it.Has(attrChunkVersions) {
			continue
		}
		behind, size := binary.Uvarint(b)
		if size <= 0 {
			return nil, fmt.Errorf("%w: %v: the versions of its chunks are cut off", kv.ErrCorrupt, it.Key)
		}
		out[i] -= int64(behind)
		b = b[size:]
	}
	return out, nil
}

// NextChunkVersions are the versions of n chunks after a step on top of version
// base that wrote those in dirty; before are those it was decided on.
func NextChunkVersions(before []int64, n int, dirty []int, base int64) []int64 {
	out := make([]int64, n)
	for i := range out {
		if out[i] = base; i < len(before) {
			out[i] = before[i]
		}
	}
	for _, i := range dirty {
		out[i] = base + 1
	}
	return out
}

func encodeChunkVersions(vs []int64, version int64) []byte {
	out := make([]byte, 0, 2*len(vs))
	for _, v := range vs {
		out = binary.AppendUvarint(out, uint64(version-v))
	}
	return out
}

// RunStateVersion returns the version of a run's state, 0 if it has none.
func (s *Store) RunStateVersion(ctx context.Context, k RunKey) (int64, error) {
	it, err := s.kv.Get(ctx, metaKey(k), true)
	if errors.Is(err, kv.ErrNotFound) {
		return 0, nil
	}
	return it.Int(attrVersion), translate(err)
}

// CommitRunState writes a step: the header and the chunks whose index is in
// dirty, if the run is still at version base. ErrConflict means that somebody
// else committed a step: load and decide again. chunks holds all chunks; those
// not dirty may be nil once the run is wide. A repeated call with the same
// content succeeds if the first one was applied. effects are recorded as pending
// in the same transaction.
func (s *Store) CommitRunState(ctx context.Context, k RunKey, base int64, header []byte, chunks [][]byte, dirty []int, effects ...PendingEffect) (int64, error) {
	return s.CommitRun(ctx, k, RunCommit{Base: base, Header: header, Chunks: chunks, Dirty: dirty, Effects: effects})
}

// CommitRun is CommitRunState with everything a step may write.
func (s *Store) CommitRun(ctx context.Context, k RunKey, c RunCommit) (int64, error) {
	v, err := s.commitRun(ctx, k, c)
	if it, failed := failedItem(err); failed && it != nil && it.Int(attrVersion) == c.Base && noneNil(c.Chunks) {
		// The step before left the run small enough for one item: its chunks have
		// no items of their own, or old ones.
		c.Dirty = make([]int, len(c.Chunks))
		for i := range c.Dirty {
			c.Dirty[i] = i
		}
		return s.commitRun(ctx, k, c)
	}
	return v, err
}

func (s *Store) commitRun(ctx context.Context, k RunKey, c RunCommit) (int64, error) {
	base, header, chunks, dirty, effects := c.Base, c.Header, c.Chunks, c.Dirty, c.Effects
	cond := kv.Eq(attrVersion, kv.Int(base))
	if base == 0 {
		cond = kv.NotExists()
	}
	meta := versioned(metaKey(k), nil, base+1, nil)
	if !c.Wake.IsZero() {
		meta.Attrs[attrWake] = kv.Int(c.Wake.UnixMilli())
	}
	total := len(header)
	for _, c := range chunks {
		total += len(c)
	}
	if total <= inlineBytes && noneNil(chunks) {
		doc := joinInline(header, chunks)
		meta.Attrs[attrDoc] = kv.Bytes(doc)
		if len(effects) > 0 {
			return committed(s.kv.Transact(ctx, "", withEffects([]kv.Op{kv.Put(meta, cond)}, effects)), meta)
		}
		return committed(s.kv.Write(ctx, kv.Put(meta, cond)), meta)
	}
	if len(dirty) < len(chunks) {
		// The other chunks must have items of their own that are current.
		cond = kv.And(cond, kv.Present(attrChunks))
	}
	meta.Attrs[attrDoc] = kv.Bytes(header)
	meta.Attrs[attrChunks] = kv.Int(int64(len(chunks)))
	meta.Attrs[attrDigest] = kv.Int(digest(header, chunks, dirty))
	meta.Attrs[attrChunkVersions] = kv.Bytes(encodeChunkVersions(NextChunkVersions(c.ChunkVersions, len(chunks), dirty, base), base+1))
	if len(dirty) == 0 && len(effects) == 0 {
		return committed(s.kv.Write(ctx, kv.Put(meta, cond)), meta)
	}
	if len(dirty)+len(effects) >= kv.MaxTransactOps {
		return s.commitWide(ctx, k, meta, cond, chunks, dirty, effects)
	}
	ops := []kv.Op{kv.Put(meta, cond)}
	for _, i := range dirty {
		ops = append(ops, kv.Put(entity(kv.Key{PK: runPK(k), SK: chunkSK(i)}, chunks[i], nil), kv.Cond{}))
	}
	return committed(s.kv.Transact(ctx, "", withEffects(ops, effects)), meta)
}

func withEffects(ops []kv.Op, effects []PendingEffect) []kv.Op {
	for _, e := range effects {
		ops = append(ops, e.op())
	}
	return ops
}

// commitWide writes more chunks than one transaction takes: a run that has just
// become wide, or an operation on all of its instances. Chunks written before
// META are ahead of it if the process dies in between; they are at most as far
// as a step that was decided, and every change in them is found again by Sweep
// (a queued instance is dispatched again under its dispatch_seq).
func (s *Store) commitWide(ctx context.Context, k RunKey, meta kv.Item, cond kv.Cond, chunks [][]byte, dirty []int, effects []PendingEffect) (int64, error) {
	check := kv.Check(meta.Key, cond)
	for len(effects) > 0 && len(dirty)+len(effects) >= kv.MaxTransactOps {
		// Ahead of the step: found pending without it, an effect is checked before it is carried out.
		n := min(len(effects), kv.MaxTransactOps-1)
		if err := s.kv.Transact(ctx, "", withEffects([]kv.Op{check}, effects[:n])); err != nil {
			return 0, translate(err)
		}
		effects = effects[n:]
	}
	for len(dirty) >= kv.MaxTransactOps {
		ops := []kv.Op{check}
		for _, i := range dirty[:kv.MaxTransactOps-1] {
			ops = append(ops, kv.Put(entity(kv.Key{PK: runPK(k), SK: chunkSK(i)}, chunks[i], nil), kv.Cond{}))
		}
		if err := s.kv.Transact(ctx, "", ops); err != nil {
			return 0, translate(err)
		}
		dirty = dirty[kv.MaxTransactOps-1:]
	}
	ops := []kv.Op{kv.Put(meta, cond)}
	for _, i := range dirty {
		ops = append(ops, kv.Put(entity(kv.Key{PK: runPK(k), SK: chunkSK(i)}, chunks[i], nil), kv.Cond{}))
	}
	return committed(s.kv.Transact(ctx, "", withEffects(ops, effects)), meta)
}

// committed interprets the outcome of a commit that writes meta: a condition
// that failed on the very item the call would have written means that an
// earlier try of the same step was applied.
func committed(err error, meta kv.Item) (int64, error) {
	version := meta.Int(attrVersion)
	if err == nil {
		return version, nil
	}
	if it, failed := failedItem(err); failed && it != nil && it.Int(attrVersion) == version && it.Int(attrDeleting) == 0 &&
		it.Int(attrDigest) == meta.Int(attrDigest) && string(it.Bytes(attrDoc)) == string(meta.Bytes(attrDoc)) {
		return version, nil
	}
	return 0, translate(err)
}

// digest distinguishes two steps of a wide run whose headers are equal.
func digest(header []byte, chunks [][]byte, dirty []int) int64 {
	h := fnv.New64a()
	h.Write(header)
	for _, i := range dirty {
		fmt.Fprintf(h, "#%d:", i)
		h.Write(chunks[i])
	}
	return int64(h.Sum64())
}

func noneNil(chunks [][]byte) bool {
	for _, c := range chunks {
		if c == nil {
			return false
		}
	}
	return true
}

// joinInline packs the header and chunks of a small run into one document:
// each part preceded by its length as a varint.
func joinInline(header []byte, chunks [][]byte) []byte {
	n := len(header) + 4
	for _, c := range chunks {
		n += len(c) + 4
	}
	out := appendPart(make([]byte, 0, n), header)
	for _, c := range chunks {
		out = appendPart(out, c)
	}
	return out
}

func appendPart(out, part []byte) []byte {
	return append(binary.AppendUvarint(out, uint64(len(part))), part...)
}

func splitInline(doc []byte) (header []byte, chunks [][]byte, err error) {
	var parts [][]byte
	for len(doc) > 0 {
		n, size := binary.Uvarint(doc)
		if size <= 0 {
			return nil, nil, errors.New("truncated length")
		}
		if doc = doc[size:]; n > uint64(len(doc)) {
			return nil, nil, errors.New("truncated part")
		}
		parts = append(parts, doc[:n])
		doc = doc[n:]
	}
	if len(parts) == 0 {
		return nil, nil, errors.New("no header")
	}
	return parts[0], parts[1:], nil
}

// Trouble says that a run's steps fail for a reason of its own, not the store's.
type Trouble struct {
	Since time.Time `json:"since"`
	// Version is that of the run's state: once it is passed the trouble is over.
	Version int64  `json:"version"`
	Error   string `json:"error"`
}

func troubleKey(k RunKey) kv.Key { return kv.Key{PK: runPK(k), SK: skTrouble} }

// PutTrouble records why a run's steps fail, for people to see.
func (s *Store) PutTrouble(ctx context.Context, k RunKey, t Trouble) error {
	return s.putDoc(ctx, troubleKey(k), t, nil)
}

// GetTrouble returns why a run's steps fail, or ErrNotFound.
func (s *Store) GetTrouble(ctx context.Context, k RunKey) (Trouble, error) {
	var t Trouble
	_, err := s.getDoc(ctx, troubleKey(k), &t)
	return t, err
}

// DeleteTrouble forgets why a run's steps failed; absent is fine.
func (s *Store) DeleteTrouble(ctx context.Context, k RunKey) error {
	return translate(s.kv.Write(ctx, kv.Delete(troubleKey(k), kv.Cond{})))
}

// loadAttempts bounds how often LoadRunState reads a wide run again because a
// step was committed meanwhile.
const loadAttempts = 16

// BeginDeleteRun marks a run's META, if it is still at the version (0: none), so
// that no step is committed any more and no process that knows the run from
// before makes it anew: ErrConflict if somebody has started or cleared it
// meanwhile. The state stays readable: who deletes a run whose deletion was cut
// short learns from it which rows there are.
func (s *Store) BeginDeleteRun(ctx context.Context, k RunKey, version int64) error {
	meta, cond := versioned(metaKey(k), nil, 1, nil), kv.NotExists()
	if version > 0 {
		it, err := s.get(ctx, metaKey(k))
		if err != nil {
			return translate(err)
		}
		if it.Int(attrVersion) != version {
			return fmt.Errorf("%w: run %s: a step was committed", airflow.ErrConflict, k)
		}
		meta = it
		meta.Attrs = maps.Clone(it.Attrs)
		meta.Attrs[attrVersion] = kv.Int(version + 1)
		cond = kv.Eq(attrVersion, kv.Int(version))
	}
	meta.Attrs[attrDeleting] = kv.Int(1)
	return translate(s.kv.Write(ctx, kv.Put(meta, cond)))
}

// DeleteRun removes a run and everything that belongs to it except task
// instance rows, which the caller deletes first (DeleteTaskInstance) because
// only the state knows them. BeginDeleteRun goes before it wherever steps may be
// committed meanwhile. Missing parts are fine.
func (s *Store) DeleteRun(ctx context.Context, r airflow.DagRun) error {
	k := runKeyOf(r)
	keys, err := listPartition(ctx, s, runPK(k), kv.Range{}, func(it kv.Item) (kv.Key, error) { return it.Key, nil })
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key.SK == skInfo || key.SK == skMeta { // last: a crash before leaves the run listed
			continue
		}
		if err := s.kv.Write(ctx, kv.Delete(key, kv.Cond{})); err != nil {
			return translate(err)
		}
	}
	if r.LogicalDate != nil {
		if err := s.kv.Write(ctx, kv.Delete(kv.Key{PK: runLDPK(r.DagID, *r.LogicalDate), SK: skMeta}, kv.Cond{})); err != nil {
			return translate(err)
		}
	}
	// At once: META alone would keep a new run of this id from starting, INFO alone
	// would be a run that waits to start.
	return translate(s.kv.Transact(ctx, "", []kv.Op{kv.Delete(metaKey(k), kv.Cond{}), kv.Delete(infoKey(k), kv.Cond{})}))
}
