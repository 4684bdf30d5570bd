package sqlitekv

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
)

// keeper copies the write-ahead log into the file, so that it does not grow without bound and no commit waits for it,
// and throws away old tokens and expired items.
type keeper struct {
	s       *Store
	c       *conn
	woken   chan struct{}
	quit    chan struct{}
	stopped chan struct{}
}

// Times of the keeper.
const (
	collectEvery = 10 * time.Minute
	tokenAge     = 2 * kv.TokenMinutes * time.Minute
	// restartWait is how long the writer waits for readers of the log's end before it goes on appending to the log.
	restartWait = 20 * time.Millisecond
)

func (s *Store) startKeeper() (*keeper, error) {
	c, err := dial(s.path, "rw", busyPragma(s.opts), "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=0")
	if err != nil {
		return nil, err
	}
	k := &keeper{s: s, c: c, woken: make(chan struct{}, 1), quit: make(chan struct{}), stopped: make(chan struct{})}
	go k.loop()
	return k, nil
}

func (k *keeper) wake() {
	select {
	case k.woken <- struct{}{}:
	default:
	}
}

func (k *keeper) stop() error {
	close(k.quit)
	<-k.stopped
	return k.c.close()
}

func (k *keeper) loop() {
	defer close(k.stopped)
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-k.quit:
			return
		case <-k.woken:
			k.checkpoint()
		case <-tick.C:
			// A failure only means that the next tick has more to do.
			_, _ = k.s.Collect(context.Background())
			k.checkpoint()
		}
	}
}

// checkpoint copies what it can without disturbing anybody. A log that never gets a rest (writers append while it is
// copied) stays long; then the writer restarts it between two batches.
func (k *keeper) checkpoint() {
	var frames int64
	err := k.c.query("PRAGMA wal_checkpoint(PASSIVE)", func(row []driver.Value) (bool, error) {
		frames, _ = row[1].(int64)
		return false, nil
	})
	const pageSize = 4096
	if err != nil || frames*pageSize > 4*k.s.opts.CheckpointBytes {
		select {
		case k.s.w.restart <- struct{}{}:
		default:
		}
	}
}

// restart runs on the writer: it copies the rest of the log and makes the next commit start it from the front.
func (k *keeper) restart(c *conn) {
	_ = c.run("PRAGMA busy_timeout=" + strconv.FormatInt(restartWait.Milliseconds(), 10))
	_ = c.run("PRAGMA wal_checkpoint(RESTART)")
	_ = c.run(busyPragma(k.s.opts))
}

// Collect removes expired items, and tokens too old to matter, and returns how many items. The keeper calls it every
// ten minutes; it is safe while others work.
func (s *Store) Collect(ctx context.Context) (int, error) {
	const chunk = 200
	total := 0
	for {
		n := 0
		r := requests.Get().(*request)
		r.task = func(w *writer) (err error) {
			n, err = w.collect(s.opts.Now(), chunk)
			return err
		}
		if err := s.submit(ctx, r); err != nil {
			return total, kv.Wrap("collect", kv.Key{}, err)
		}
		total += n
		if n < chunk {
			return total, nil
		}
	}
}

func (w *writer) collect(now time.Time, most int) (int, error) {
	if err := w.c.exec("DELETE FROM token WHERE at < ?", now.Add(-tokenAge).UnixMilli()); err != nil {
		return 0, err
	}
	var keys []kv.Key
	err := w.c.query("SELECT pk, sk FROM item WHERE expires IS NOT NULL AND expires <= ? LIMIT ?", func(row []driver.Value) (bool, error) {
		pk, _ := row[0].([]byte)
		sk, _ := row[1].([]byte)
		keys = append(keys, kv.Key{PK: string(pk), SK: string(sk)})
		return true, nil
	}, now.Unix(), int64(most))
	for i := 0; err == nil && i < len(keys); i++ {
		var it *kv.Item
		var id int64
		if it, id, err = load(w.c, keys[i]); err == nil {
			err = w.store(change{cur: it, id: id})
		}
	}
	return len(keys), err
}

// fillIndexes writes the entries of all items into empty index tables.
func (s *Store) fillIndexes(c *conn) error {
	w := &writer{s: s, c: c}
	for _, ix := range s.opts.Schema.Indexes {
		w.ix = append(w.ix, indexSQL{Index: ix, insert: `INSERT OR REPLACE INTO "ix_` + string(ix.Name) + `"(body, ipk, isk, pk, sk) VALUES(?, ?, ?, ?, ?)`})
	}
	return c.query("SELECT pk, sk, body FROM item", func(row []driver.Value) (bool, error) {
		pk, _ := row[0].([]byte)
		sk, _ := row[1].([]byte)
		body, _ := row[2].([]byte)
		it := kv.Item{Key: kv.Key{PK: string(pk), SK: string(sk)}}
		if err := decode(body, &it); err != nil {
			return false, err
		}
		for i := range w.ix {
			if err := w.index(&w.ix[i], nil, &it); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// Check reads every page of the file and reports damage as kv.ErrCorrupt. Others may go on working meanwhile.
func (s *Store) Check(ctx context.Context) error {
	return kv.Wrap("check", kv.Key{}, s.read(ctx, func(c *conn) error { return check(c, s.path, "integrity_check(10)") }))
}

// Backup writes a consistent copy of the store to dest, which must not exist, while others go on working. The copy is
// complete and synced when Backup returns nil, and can be opened like the original.
func (s *Store) Backup(ctx context.Context, dest string) error {
	return kv.Wrap("backup", kv.Key{}, s.backup(ctx, dest))
}

func (s *Store) backup(ctx context.Context, dest string) (err error) {
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%w: %s exists; name a new file", kv.ErrInvalid, dest)
	}
	tmp := dest + ".partial"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(tmp))
		}
	}()
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.RUnlock()
	c, err := dial(s.path, "ro", busyPragma(s.opts))
	if err != nil {
		return s.explain(err)
	}
	if err := errors.Join(c.exec("VACUUM INTO ?", tmp), c.close()); err != nil {
		return s.explain(err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
	}
	if err := os.Rename(tmp, dest); err != nil {
		return fmt.Errorf("%w: %w", kv.ErrUnavailable, err)
	}
	return nil
}

// Close implements [kv.Driver]. The last process to close the file also folds its write-ahead log into it.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.mu.Lock() // waits for the calls in progress
		s.closed = true
		s.mu.Unlock() // the keeper may be about to make one
		close(s.queue)
		<-s.w.stopped
		err := s.k.stop()
		for range s.opts.Readers {
			if c := <-s.readers; c != nil {
				err = errors.Join(err, c.close())
			}
		}
		s.closeErr = kv.Wrap("close", kv.Key{}, s.explain(errors.Join(err, s.w.c.close())))
	})
	return s.closeErr
}
