package awsapp

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/store"
)

// lazyKeys reads the keys of variables and connections from their secret when
// the first of them is needed: most tasks need none.
type lazyKeys struct {
	open func(context.Context) (store.Sealer, error)

	mu   sync.Mutex
	keys store.Sealer
}

func (l *lazyKeys) get() (store.Sealer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys != nil {
		return l.keys, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	k, err := l.open(ctx)
	if err == nil {
		l.keys = k
	}
	return k, err // a failure is tried again by the next call
}

// Seal implements store.Sealer.
func (l *lazyKeys) Seal(plaintext, associated []byte) ([]byte, error) {
	k, err := l.get()
	if err != nil {
		return nil, err
	}
	return k.Seal(plaintext, associated)
}

// Open implements store.Sealer.
func (l *lazyKeys) Open(ciphertext, associated []byte) ([]byte, error) {
	k, err := l.get()
	if err != nil {
		return nil, err
	}
	return k.Open(ciphertext, associated)
}

// errNoKeys is what a process says that was not made to read secrets.
var errNoKeys = errors.New("this process has no keys of variables and connections: it must not need them (package awskeys)")

func (a *App) openKeys(ctx context.Context) (store.Sealer, error) {
	if a.Config.KeysSecret == "" {
		return nil, missing(awsenv.KeysSecret)
	}
	if a.OpenKeys == nil {
		return nil, errNoKeys
	}
	return a.OpenKeys(ctx)
}
