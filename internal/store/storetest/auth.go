package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
)

// testAuth is about who may sign in.
func testAuth(t *testing.T, s *store.Store) {
	ctx := t.Context()
	odd := "jo#%/ü" // a name is not a key
	for _, name := range []string{"b", "a", odd} {
		ok(t, s.CreateUser(ctx, store.User{Username: name, Role: "User", Generation: "g1", CreatedAt: epoch, Scopes: []store.DagScope{{Tag: "x", Role: "Op"}}}))
	}
	is(t, s.CreateUser(ctx, store.User{Username: "a"}), airflow.ErrAlreadyExists)
	u := must[store.User](t)(s.UpdateUser(ctx, odd, func(u *store.User) error { u.Role, u.Username = "Op", "stolen"; return nil }))
	if u.Username != odd || u.Role != "Op" || len(u.Scopes) != 1 {
		t.Errorf("updated user %+v", u)
	}
	if us := must[[]store.User](t)(s.ListUsers(ctx)); len(us) != 3 || us[0].Username != "a" {
		t.Errorf("users %+v", us)
	}
	_, err := s.UpdateUser(ctx, "absent", func(*store.User) error { return nil })
	is(t, err, airflow.ErrNotFound)
	is(t, s.DeleteUser(ctx, "absent"), airflow.ErrNotFound)

	// A token: its user and whether it was taken back, together.
	if u, revoked, err := s.UserOfToken(ctx, odd, "j1"); err != nil || revoked || u.Role != "Op" {
		t.Errorf("user of a token: %+v %v %v", u, revoked, err)
	}
	ok(t, s.RevokeToken(ctx, "j1", time.Now().Add(time.Hour)))
	ok(t, s.RevokeToken(ctx, "j1", time.Now().Add(time.Hour)))
	for jti, want := range map[string]bool{"j1": true, "j2": false} {
		if _, revoked, err := s.UserOfToken(ctx, "a", jti); err != nil || revoked != want {
			t.Errorf("token %s revoked: %v, %v", jti, revoked, err)
		}
	}
	ok(t, s.DeleteUser(ctx, "a"))
	_, _, err = s.UserOfToken(ctx, "a", "j2")
	is(t, err, airflow.ErrNotFound)

	// API tokens.
	tok := store.APIToken{ID: "t1", Name: "n", Owner: "b", Role: "User", Hash: []byte{0, 255, 1}, CreatedAt: epoch}
	ok(t, s.CreateAPIToken(ctx, tok))
	is(t, s.CreateAPIToken(ctx, tok), airflow.ErrAlreadyExists)
	if got := must[store.APIToken](t)(s.GetAPIToken(ctx, "t1")); string(got.Hash) != "\x00\xff\x01" || !got.ExpiresAt.IsZero() {
		t.Errorf("API token %+v", got)
	}
	must[store.APIToken](t)(s.UpdateAPIToken(ctx, "t1", func(t *store.APIToken) error { t.LastUsed = epoch; return nil }))
	if ts := must[[]store.APIToken](t)(s.ListAPITokens(ctx)); len(ts) != 1 || !ts[0].LastUsed.Equal(epoch) {
		t.Errorf("API tokens %+v", ts)
	}
	ok(t, s.DeleteAPIToken(ctx, "t1"))
	_, err = s.GetAPIToken(ctx, "t1")
	is(t, err, airflow.ErrNotFound)
	_, err = s.UpdateAPIToken(ctx, "t1", func(*store.APIToken) error { return nil }) // noting its use must not bring it back
	is(t, err, airflow.ErrNotFound)
}

func testSigningKeys(t *testing.T, s *store.Store) {
	ctx := t.Context()
	_, err := s.SigningKeys(ctx)
	is(t, err, airflow.ErrNotFound)
	// Of many first starts at the same moment one makes the key; each change of many sees the others'.
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			_, err := s.UpdateSigningKeys(ctx, func(have []store.SigningKey) ([]store.SigningKey, error) {
				return append(have, store.SigningKey{KeyID: fmt.Sprint(i), Secret: []byte("the secret of a key")}), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if keys := must[[]store.SigningKey](t)(s.SigningKeys(ctx)); len(keys) != 6 || string(keys[0].Secret) != "the secret of a key" {
		t.Errorf("%d keys, want 6", len(keys))
	}
	// Nothing of a key is in the store in the clear, and a rotation of the installation's key finds it.
	page := must[kv.Page](t)(s.Driver().Query(ctx, kv.Query{PK: "AUTHKEYS#jwt"}))
	if len(page.Items) != 1 || strings.Contains(fmt.Sprint(page.Items[0].Attrs), "secret of a key") {
		t.Errorf("items of the keys: %v", page.Items)
	}
	if n := must[int](t)(s.ResealSecrets(ctx)); n != 1 {
		t.Errorf("%d secrets were sealed again, want the keys", n)
	}
	stop := errors.New("stop")
	_, err = s.UpdateSigningKeys(ctx, func([]store.SigningKey) ([]store.SigningKey, error) { return nil, stop })
	is(t, err, stop)
}

func testSignInCounts(t *testing.T, s *store.Store) {
	ctx := t.Context()
	window := time.Now().Truncate(time.Hour)
	count := func(limit int64, who ...string) bool {
		t.Helper()
		return must[bool](t)(s.CountSignIn(ctx, window, time.Hour, limit, who...))
	}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if yes, err := s.CountSignIn(ctx, window, time.Hour, 5, "source", "192.0.2.1"); err != nil {
				t.Error(err)
			} else if yes {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 5 {
		t.Errorf("%d attempts passed a limit of 5 together", passed.Load())
	}
	if !count(5, "source", "192.0.2.2") || !count(5, "account", "192.0.2.1") || !count(5, "source#192.0.2.1") {
		t.Error("others are limited, too")
	}
	if yes := must[bool](t)(s.CountSignIn(ctx, window.Add(time.Hour), time.Hour, 5, "source", "192.0.2.1")); !yes {
		t.Error("the next window is limited, too")
	}
	ok(t, s.UncountSignIn(ctx, window, "source", "192.0.2.1"))
	if !count(5, "source", "192.0.2.1") || count(5, "source", "192.0.2.1") {
		t.Error("an attempt that was taken back leaves room for one")
	}
	ok(t, s.UncountSignIn(ctx, window, "nobody"))
	if !count(1, "nobody") || count(1, "nobody") {
		t.Error("taking back what was not counted must give nothing")
	}
	ok(t, s.ForgetSignIns(ctx, window, "source", "192.0.2.1"))
	ok(t, s.ForgetSignIns(ctx, window, "never"))
	for range 5 {
		if !count(5, "source", "192.0.2.1") {
			t.Error("a forgotten window is not empty")
		}
	}
}
