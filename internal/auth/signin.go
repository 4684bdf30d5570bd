package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// The limits on attempts that fail, within windows of signInWindow: of one account
// from one source, and of one source over all accounts. There is none on an account
// alone: whoever knows a name could keep its owner out.
const (
	signInWindow       = 15 * time.Minute
	signInsPerAccount  = 10
	signInsPerSource   = 100
	maxSignInUsername  = 250
	signInKindSource   = "source"
	signInKindAccount  = "account"
	signInUnknownActor = "" // the owner of audit events of people whom we do not know
)

// ErrCredentials: no such user, a wrong password or a disabled user. Which of them
// is told nobody.
var ErrCredentials = errors.New("Invalid credentials") //nolint:staticcheck // Airflow's text, shown as it is

// LimitError: too many attempts failed.
type LimitError struct{ RetryAfter time.Duration }

func (e *LimitError) Error() string {
	return fmt.Sprintf("Too many failed attempts to sign in. Try again in %d minutes", int((e.RetryAfter+time.Minute-1)/time.Minute))
}

// SignIn checks a password that came from source. Every attempt is counted before
// the password is looked at, so that attempts at the same moment do not get past the
// limits; one that succeeds is taken off again. Errors: ErrCredentials, *LimitError,
// the store's.
func (s *Service) SignIn(ctx context.Context, username, password, source string) (store.User, error) {
	now := s.now()
	window := now.Truncate(signInWindow)
	// A name may be anything, a password typed into the wrong field too: its hash is kept.
	sum := sha256.Sum256([]byte(strings.ToLower(username)))
	account := []string{signInKindAccount, hex.EncodeToString(sum[:]), source}
	for _, l := range []struct {
		limit int64
		who   []string
	}{{signInsPerSource, []string{signInKindSource, source}}, {signInsPerAccount, account}} {
		ok, err := s.store.CountSignIn(ctx, window, signInWindow, l.limit, l.who...)
		if err != nil {
			return store.User{}, err
		}
		if !ok {
			s.log.Warn("a sign-in was refused: too many attempts failed", "source", source, "limit_on", l.who[0])
			return store.User{}, &LimitError{window.Add(signInWindow).Sub(now)}
		}
	}
	u, known, err := s.userToSignIn(ctx, username)
	if err != nil {
		return store.User{}, err
	}
	if len(password) > maxPassword {
		password = "" // matches nothing, and takes as long
	}
	match, stale, err := s.passwordMatches(ctx, u.PasswordHash, password)
	if err != nil {
		return store.User{}, err
	}
	if !match || !known || u.Disabled {
		who := signInUnknownActor
		if known {
			who = u.Username
		}
		s.Audit(ctx, "sign_in_failed", who, source, nil)
		return store.User{}, ErrCredentials
	}
	if err := errors.Join(s.store.ForgetSignIns(ctx, window, account...), s.store.UncountSignIn(ctx, window, signInKindSource, source)); err != nil {
		s.log.Warn("the counts of failed sign-ins were not reset", "err", err)
	}
	hash := ""
	if stale {
		if hash, err = s.hashPassword(ctx, password); err != nil {
			return store.User{}, err
		}
	}
	u, err = s.store.UpdateUser(ctx, u.Username, func(now *store.User) error {
		if now.Disabled || now.Generation != u.Generation {
			return ErrCredentials // changed while we looked
		}
		if now.LastLogin = s.now(); hash != "" {
			now.PasswordHash = hash
		}
		return nil
	})
	if err != nil {
		return store.User{}, err
	}
	return u, nil
}

// userToSignIn returns a user; known is false, without an error, where there is none.
func (s *Service) userToSignIn(ctx context.Context, username string) (u store.User, known bool, err error) {
	if username == "" || len(username) > maxSignInUsername {
		return u, false, nil
	}
	u, err = s.store.GetUser(ctx, username)
	if errors.Is(err, airflow.ErrNotFound) {
		u, err = s.adoptFirstAdmin(ctx, username)
	}
	if errors.Is(err, airflow.ErrNotFound) {
		return store.User{}, false, nil
	}
	return u, err == nil, err
}

// Audit records who did what, from where. What was done stands even if it cannot be
// recorded.
func (s *Service) Audit(ctx context.Context, event, owner, source string, extra map[string]string) {
	e := store.AuditEvent{ID: uuid.NewString(), When: s.now(), Event: event, Owner: owner, Source: source}
	var err error
	if len(extra) > 0 {
		e.Extra, err = json.Marshal(extra)
	}
	if err == nil {
		err = s.store.PutAudit(context.WithoutCancel(ctx), e)
	}
	if err != nil {
		s.log.Error("not recorded in the audit log", "event", event, "owner", owner, "err", err)
	}
}
