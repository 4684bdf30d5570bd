// Package reconcile keeps the Store in step with a bucket of DAG files from
// invocations that come and go: each takes up where the last one left off, and
// leaves what it registered in a cache beside the data.
//
// An invocation has a cause: events of the bucket, a clock, or a wish. Whatever it
// is, the bucket's listing decides. Events can save a listing, when a processor that
// is still warm has registered what they tell; the clock can save the reading of the
// store, when the listing, the inputs and the program are those of the last complete
// scan (the mark).
//
// Two invocations at once are harmless, not useful: DAGs are registered by conditional
// writes, and the one that ends later finds that the cache was written meanwhile,
// does not replace it, and asks to be called again. The next scan compares the cache
// with the Store and the listing, and mends what an older listing registered last.
package reconcile

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/bundle"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/store"
)

// Cause says why the bucket is looked at. The zero value does nothing.
type Cause struct {
	// Events of the bucket.
	Events []dagbucket.Event
	// Clock asks for the periodic look.
	Clock bool
	// Reparse asks for files to be parsed again although nothing changed; All for all
	// of them.
	Reparse []string
	All     bool
}

// Config says what to keep in step. Folder, Store, Bundles, Loader, Cache, Mark and
// Tell are required.
type Config struct {
	Folder  *dagbucket.Folder
	Store   *store.Store
	Bundles *bundle.Store
	Loader  dagprocessor.Loader
	Scan    dagprocessor.ScanOptions
	// Cache holds what was registered last, Mark what was seen then.
	Cache, Mark dagprocessor.Cache
	// Tell tells the scheduler of DAGs that may have changed. It is repeated until it
	// succeeds.
	Tell func(ctx context.Context, ids []airflow.DagID) error
	// Later asks for another invocation by the clock after a while, at most 15
	// minutes; nil: the periodic one does.
	Later func(ctx context.Context, after time.Duration) error

	// Warn is as in dagprocessor.Config.
	Warn             func(dag *airflow.DAG) []airflow.Problem
	PausedAtCreation *bool
	StaleThreshold   time.Duration // as in dagprocessor.Config
	LoadTimeout      time.Duration
	// Full is how often a complete scan is made although nothing seems to have
	// changed; default 24 h.
	Full time.Duration
	// Reserve is what must be left of the context's time: a scan that needs longer is
	// continued by another invocation. Default 20 s.
	Reserve time.Duration
	Now     func() time.Time
	Log     *slog.Logger
}

// Reconciler serves invocations, one at a time. It keeps its processor while it
// lives: a warm one knows what it registered.
type Reconciler struct {
	cfg Config

	mu   sync.Mutex
	p    *dagprocessor.Processor
	seen string // digest of the listing of the last complete scan of this process
}

// New returns a reconciler. Nothing is read.
func New(c Config) *Reconciler {
	if c.Full == 0 {
		c.Full = 24 * time.Hour
	}
	if c.Reserve == 0 {
		c.Reserve = 20 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Reconciler{cfg: c}
}

// mendInterval replaces the half minute of a processor that sits beside its folder:
// whatever can mend a file in a bucket shows in the listing.
const mendInterval = 6 * time.Hour

// maxLater bounds Later, soon what is worth asking for rather than leaving it to the
// periodic invocation.
const (
	maxLater = 15 * time.Minute
	soon     = 2 * time.Minute
)

// mark is what a complete scan saw.
type mark struct {
	Root        string    `json:"root"`
	Fingerprint string    `json:"fingerprint"`
	Listing     string    `json:"listing"` // digest
	Inputs      []string  `json:"inputs,omitempty"`
	InputDigest string    `json:"input_digest,omitempty"`
	At          time.Time `json:"at"`
	// Next is when a scan is due although nothing changes; zero = never.
	Next time.Time `json:"next,omitzero"`
	// Busy are the scans that have begun and not ended, by a name of their own, with
	// the time. While there is one the rest says nothing: it may register an older
	// listing still.
	Busy map[string]time.Time `json:"busy,omitempty"`
}

// maxScan is how long an invocation can last: after that a scan that is busy has died.
const maxScan = 15 * time.Minute

// update changes the mark, whoever else does.
func (r *Reconciler) update(ctx context.Context, change func(*mark)) error {
	for attempt := 0; ; attempt++ {
		data, err := r.cfg.Mark.Read(ctx)
		if err != nil {
			return fmt.Errorf("read the mark of the last scan: %w", err)
		}
		var m mark
		_ = json.Unmarshal(data, &m) // one that cannot be read says nothing
		for id, at := range m.Busy {
			if r.cfg.Now().Sub(at) > maxScan {
				delete(m.Busy, id)
			}
		}
		change(&m)
		if data, err = json.Marshal(m); err != nil {
			return err
		}
		if err = r.cfg.Mark.Write(ctx, data); err == nil || !errors.Is(err, airflow.ErrConflict) || attempt == 8 {
			if err != nil {
				err = fmt.Errorf("write the mark of the scan: %w", err)
			}
			return err
		}
	}
}

// Handle serves one invocation. An error means that it must be repeated.
func (r *Reconciler) Handle(ctx context.Context, c Cause) (dagprocessor.Summary, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wish := c.All || len(c.Reparse) > 0
	if !wish && !c.Clock && (len(c.Events) == 0 || r.reflected(c.Events)) {
		return dagprocessor.Summary{}, nil
	}
	if !wish && c.Clock && len(c.Events) == 0 {
		idle, err := r.unchanged(ctx)
		if err != nil || idle {
			return dagprocessor.Summary{}, err
		}
	}
	if r.p == nil {
		if err := r.open(); err != nil {
			return dagprocessor.Summary{}, err
		}
	}
	if wish {
		files := c.Reparse
		if c.All {
			files = nil
		}
		r.p.Reparse(files...)
	}
	return r.scan(ctx)
}

// reflected reports whether this process has registered all that events tell.
func (r *Reconciler) reflected(events []dagbucket.Event) bool {
	if r.seen == "" || r.seen != r.cfg.Folder.Digest() {
		return false
	}
	for _, e := range dagbucket.Newest(events) {
		if !r.cfg.Folder.Reflects(e) {
			return false
		}
	}
	return true
}

// unchanged reports whether everything is as the last complete scan left it.
func (r *Reconciler) unchanged(ctx context.Context) (bool, error) {
	data, err := r.cfg.Mark.Read(ctx)
	if err != nil {
		return false, fmt.Errorf("read the mark of the last scan: %w", err)
	}
	var m mark
	now := r.cfg.Now()
	if json.Unmarshal(data, &m) != nil || len(m.Busy) > 0 || m.Root != r.cfg.Folder.Root() || m.Fingerprint != r.cfg.Loader.Fingerprint() ||
		now.Sub(m.At) >= r.cfg.Full || !m.Next.IsZero() && !now.Before(m.Next) {
		return false, nil
	}
	if len(m.Inputs) > 0 {
		digest, err := r.cfg.Loader.Inputs(ctx, m.Inputs)
		if err != nil || digest != m.InputDigest {
			return false, err
		}
	}
	if err := r.cfg.Folder.Refresh(ctx); err != nil {
		return false, err
	}
	return r.cfg.Folder.Digest() == m.Listing, nil
}

func (r *Reconciler) open() error {
	p, err := dagprocessor.New(dagprocessor.Config{
		Source: r.cfg.Folder, Cache: r.cfg.Cache, Store: r.cfg.Store, Bundles: r.cfg.Bundles, Loader: r.cfg.Loader, Scan: r.cfg.Scan,
		Warn: r.cfg.Warn, Announce: r.cfg.Tell, Checkpoint: 20 * time.Second, PausedAtCreation: r.cfg.PausedAtCreation, StaleThreshold: r.cfg.StaleThreshold,
		LoadTimeout: r.cfg.LoadTimeout, MendInterval: mendInterval, Now: r.cfg.Now, Log: r.cfg.Log,
	})
	r.p = p
	return err
}

// scan registers what changed.
func (r *Reconciler) scan(ctx context.Context) (dagprocessor.Summary, error) {
	before := r.seen
	r.seen = ""
	limited, cancel := ctx, context.CancelFunc(func() {})
	if end, ok := ctx.Deadline(); ok {
		limited, cancel = context.WithDeadline(ctx, end.Add(-r.cfg.Reserve))
	}
	defer cancel()
	id := rand.Text()
	if err := r.update(ctx, func(m *mark) {
		*m = mark{Busy: m.Busy}
		if m.Busy == nil {
			m.Busy = map[string]time.Time{}
		}
		m.Busy[id] = r.cfg.Now().UTC()
	}); err != nil {
		return dagprocessor.Summary{}, err
	}
	// What a broken file is looking for may be there now.
	r.p.Mend()
	sum, err := r.p.Sync(limited)
	if err != nil {
		r.p = nil // read the cache again: it is not known what was stored
		r.ended(ctx, id, mark{})
		if sum.Parsed > 0 && limited.Err() != nil && ctx.Err() == nil {
			r.cfg.Log.Info("the scan goes on in another invocation", "parsed", sum.Parsed, "files", sum.Files)
			return sum, r.later(ctx, 0)
		}
		return sum, err
	}
	if errors.Is(sum.CacheErr, airflow.ErrConflict) {
		r.p = nil
		r.ended(ctx, id, mark{})
		return sum, r.later(ctx, 0)
	}
	now := r.cfg.Now()
	if !sum.Next.IsZero() && sum.Next.Sub(now) < soon {
		if err := r.later(ctx, max(sum.Next.Sub(now), 0)); err != nil {
			return sum, err
		}
	}
	if sum.CacheErr != nil {
		r.ended(ctx, id, mark{}) // without the cache nothing may keep the next scan from being made
		return sum, nil
	}
	digest := r.cfg.Folder.Digest()
	if digest != before || before == "" || len(sum.Changed) > 0 {
		r.cfg.Log.Info("DAG files registered", "files", sum.Files, "parsed", sum.Parsed, "dags", sum.Dags, "changed", len(sum.Changed), "stale", len(sum.Stale), "import_errors", sum.ImportErrors)
	}
	r.seen = digest
	return sum, r.complete(ctx, id, sum, now)
}

// ended notes that a scan is over, and what it saw. A mark that is not written makes
// the next invocation scan.
func (r *Reconciler) ended(ctx context.Context, id string, saw mark) {
	if err := r.update(ctx, func(m *mark) {
		saw.Busy = m.Busy
		delete(saw.Busy, id)
		*m = saw
	}); err != nil {
		r.cfg.Log.Warn("the mark of the scan cannot be written: the next invocation scans again", "err", err)
	}
}

// complete notes what a complete scan saw.
func (r *Reconciler) complete(ctx context.Context, id string, sum dagprocessor.Summary, now time.Time) error {
	m := mark{Root: r.cfg.Folder.Root(), Fingerprint: r.cfg.Loader.Fingerprint(), Listing: r.seen, At: now.UTC(), Next: sum.Next, Inputs: r.p.InputNames()}
	if len(m.Inputs) > 0 {
		var err error
		if m.InputDigest, err = r.cfg.Loader.Inputs(ctx, m.Inputs); err != nil {
			return err
		}
	}
	r.ended(ctx, id, m)
	return nil
}

func (r *Reconciler) later(ctx context.Context, after time.Duration) error {
	if r.cfg.Later == nil {
		return nil
	}
	if err := r.cfg.Later(ctx, min(after, maxLater)); err != nil {
		return fmt.Errorf("ask for another look at the DAG files: %w", err)
	}
	return nil
}

// ParseCause reads one message of the queue of DAG changes, or the input of a rule:
// a notification of the bucket, {"gust":"reconcile"}, or
// {"gust":"reparse","files":["a.yml"]} (without files: all).
func ParseCause(body []byte) (Cause, error) {
	var m struct {
		Gust   string   `json:"gust"`
		Files  []string `json:"files"`
		Source string   `json:"source"`
		Type   string   `json:"detail-type"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return Cause{}, fmt.Errorf("message of DAG changes: %w", err)
	}
	switch {
	case m.Gust == "reconcile", m.Gust == "tick", m.Type == "Scheduled Event":
		return Cause{Clock: true}, nil
	case m.Gust == "reparse":
		return Cause{Reparse: m.Files, All: len(m.Files) == 0}, nil
	case m.Gust != "":
		return Cause{}, fmt.Errorf("message of DAG changes: unknown kind %q: expected reconcile or reparse", m.Gust)
	}
	events, err := dagbucket.ParseEvents(body)
	return Cause{Events: events}, err
}

// Join makes one cause of several.
func Join(cs ...Cause) Cause {
	var out Cause
	for _, c := range cs {
		out.Events = append(out.Events, c.Events...)
		out.Reparse = append(out.Reparse, c.Reparse...)
		out.Clock, out.All = out.Clock || c.Clock, out.All || c.All
	}
	return out
}

// Below keeps the events of one bucket; others are none of ours.
func (c Cause) Below(bucket string) Cause {
	var kept []dagbucket.Event
	for _, e := range c.Events {
		if e.Bucket == "" || strings.EqualFold(e.Bucket, bucket) {
			kept = append(kept, e)
		}
	}
	c.Events = kept
	return c
}
