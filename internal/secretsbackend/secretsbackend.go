// Package secretsbackend looks variables and connections up in a secret manager,
// as Airflow's [secrets] backend does: with its class paths, arguments, names and
// formats, so that what a team has stored for Airflow is found unchanged.
//
// It knows no secret manager itself. A Source reads one; package awssecrets has
// those of AWS Secrets Manager and of the Systems Manager Parameter Store.
//
// Answers are cached, also that there is none: every task asks for the connections
// of its hooks, and a request costs more than the task's state. Nothing that is
// returned, logged or wrapped in an error contains a value, except the variables
// and connections themselves.
package secretsbackend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/connection"
)

// Source reads secrets by their whole name.
type Source interface {
	// Get returns a secret; ok is false if there is none. airflow.ErrNotAllowed says
	// that this process may not read it, airflow.ErrThrottled and
	// airflow.ErrUnavailable that nothing is known. Errors never contain a value.
	Get(ctx context.Context, name string) (value string, ok bool, err error)
}

// Options configure a Backend. The zero value is a good default.
type Options struct {
	// TTL is how long an answer is kept. Default 5 min; negative keeps none.
	TTL time.Duration
	Now func() time.Time
	Log *slog.Logger
}

// maxEntries bounds the cache: names come from tasks.
const maxEntries = 4096

// Backend is an engine.Secrets over a source. It is safe for concurrent use:
// several lookups of one name make one request.
type Backend struct {
	names  Naming
	source Source
	o      Options

	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	mu      sync.Mutex // held while the source is asked
	value   string
	ok      bool
	expires time.Time // zero = nothing known
}

// New returns a backend.
func New(n Naming, s Source, o Options) *Backend {
	if o.TTL == 0 {
		o.TTL = 5 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Backend{names: n, source: s, o: o, entries: map[string]*entry{}}
}

// Variable returns the variable of that key; ok is false if the backend has none,
// is not to be asked for it, or may not read it.
func (b *Backend) Variable(ctx context.Context, key string) (airflow.Variable, bool, error) {
	text, ok, err := b.get(ctx, b.names.Variables, key)
	if err != nil || !ok {
		return airflow.Variable{}, false, err
	}
	return airflow.Variable{Key: key, Value: text}, true, nil
}

// Connection returns the connection of that id, stored as a URI or as JSON; ok is
// false as for Variable. An error that is not of the source says that the text
// cannot be read.
func (b *Backend) Connection(ctx context.Context, id string) (airflow.Connection, bool, error) {
	text, ok, err := b.get(ctx, b.names.Connections, id)
	if err != nil || !ok || text == "" {
		return airflow.Connection{}, false, err
	}
	if text, err = b.names.connectionText(text); err == nil {
		var c airflow.Connection
		if c, err = connection.Parse(id, text); err == nil {
			return c, true, nil
		}
	}
	// What the parser found may quote the text.
	return airflow.Connection{}, false, airflow.Invalid("connection "+id, "the secret %s cannot be read as a connection: expected a URI such as postgres://login:password@host:5432/schema, or a JSON object with conn_type, host, login, password, schema, port and extra",
		b.names.Connections.name(b.names.Sep, id))
}

// get reads one name through the cache.
func (b *Backend) get(ctx context.Context, k Kind, id string) (string, bool, error) {
	if !k.asks(id) {
		return "", false, nil
	}
	name := k.name(b.names.Sep, id)
	e := b.entry(name)
	e.mu.Lock()
	defer e.mu.Unlock()
	now := b.o.Now()
	if now.Before(e.expires) {
		return e.value, e.ok, nil
	}
	value, ok, err := b.source.Get(ctx, name)
	if errors.Is(err, airflow.ErrNotAllowed) {
		// As with Airflow, the next place is asked: a role may be made to read some
		// names only.
		b.o.Log.Warn("the secrets backend denies access: looking elsewhere", "secret", name, "err", err)
		value, ok, err = "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("secrets backend: %s: %w", name, err)
	}
	if b.o.TTL > 0 {
		e.value, e.ok, e.expires = value, ok, now.Add(b.o.TTL)
	}
	return value, ok, nil
}

func (b *Backend) entry(name string) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[name]
	if e == nil {
		if len(b.entries) >= maxEntries {
			clear(b.entries)
		}
		e = &entry{}
		b.entries[name] = e
	}
	return e
}

// String, GoString, Format and LogValue keep cached values out of every message.
func (b *Backend) String() string { return "secretsbackend.Backend" }

// GoString implements fmt.GoStringer.
func (b *Backend) GoString() string { return b.String() }

// Format implements fmt.Formatter: every verb prints String.
func (b *Backend) Format(s fmt.State, _ rune) { fmt.Fprint(s, b.String()) }

// LogValue implements slog.LogValuer.
func (b *Backend) LogValue() slog.Value { return slog.StringValue(b.String()) }

// Secrets is a place where variables and connections are looked up; it is
// engine.Secrets.
type Secrets interface {
	Variable(ctx context.Context, key string) (airflow.Variable, bool, error)
	Connection(ctx context.Context, id string) (airflow.Connection, bool, error)
}

// Chain asks several places in turn and returns the first answer. An error ends
// the search: what a later place has must not stand in for what could not be read.
type Chain []Secrets

// Variable returns the first place's variable of that key.
func (c Chain) Variable(ctx context.Context, key string) (airflow.Variable, bool, error) {
	for _, s := range c {
		if v, ok, err := s.Variable(ctx, key); ok || err != nil {
			return v, ok, err
		}
	}
	return airflow.Variable{}, false, nil
}

// Connection returns the first place's connection of that id.
func (c Chain) Connection(ctx context.Context, id string) (airflow.Connection, bool, error) {
	for _, s := range c {
		if v, ok, err := s.Connection(ctx, id); ok || err != nil {
			return v, ok, err
		}
	}
	return airflow.Connection{}, false, nil
}
