package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// Who may sign in, with what, and what was taken back. Access paths:
//
//	USER#name         one user; gsi1 ALL#USER lists them by name
//	APITOKEN#id       one API token, hashed; gsi1 ALL#APITOKEN lists them by id
//	AUTHKEYS#jwt      the keys that sign tokens, sealed; gsi1 so that a rotation of the installation key finds them
//	REVOKED#jti       a token that was taken back; vanishes when the token would have expired
//	SIGNIN#…#window   attempts to sign in within a window; vanishes after it
const (
	kindUser     = "USER"
	kindAPIToken = "APITOKEN"
	kindAuthKeys = "AUTHKEYS"
	kindRevoked  = "REVOKED"
	kindSignIn   = "SIGNIN"
)

const attrAttempts = "at" // attempts to sign in within a window

// DagScope gives a role on the DAGs whose id and tags match: DagID and Tag are
// patterns with * and ?, an empty one matches every DAG. An empty Role is that of
// the user or token.
type DagScope struct {
	DagID string `json:"dag_id,omitempty"`
	Tag   string `json:"tag,omitempty"`
	Role  string `json:"role,omitempty"`
}

// User is somebody who may sign in. PasswordHash is in PHC string format, empty
// for users whose identity provider vouches for them.
type User struct {
	Username     string     `json:"username"`
	Role         string     `json:"role"`
	Email        string     `json:"email,omitempty"`
	FirstName    string     `json:"first_name,omitempty"`
	LastName     string     `json:"last_name,omitempty"`
	PasswordHash string     `json:"password_hash,omitempty"`
	Disabled     bool       `json:"disabled,omitempty"`
	Scopes       []DagScope `json:"scopes,omitempty"`
	// Generation is made anew when tokens issued before must no longer be taken: a
	// new password, a disabled user, a user made again under an old name.
	Generation string `json:"generation"`
	// Provider and Subject say who vouches for the user, "" for a local one.
	Provider  string    `json:"provider,omitempty"`
	Subject   string    `json:"subject,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	LastLogin time.Time `json:"last_login,omitzero"`
}

func userIndex(u User) map[kv.IndexName]kv.Key { return listed(kindUser, joinKey(u.Username)) }

// CreateUser stores a new user, or ErrAlreadyExists.
func (s *Store) CreateUser(ctx context.Context, u User) error {
	return s.createDoc(ctx, namedKey(kindUser, u.Username), u, userIndex(u))
}

// GetUser returns a user, or ErrNotFound.
func (s *Store) GetUser(ctx context.Context, name string) (User, error) {
	var u User
	_, err := s.getDoc(ctx, namedKey(kindUser, name), &u)
	return u, err
}

// UpdateUser changes a user; the name stays.
func (s *Store) UpdateUser(ctx context.Context, name string, change func(*User) error) (User, error) {
	return update(ctx, s, namedKey(kindUser, name), userIndex, func(u *User) error {
		if err := change(u); err != nil {
			return err
		}
		u.Username = name
		return nil
	})
}

// DeleteUser removes a user, or ErrNotFound.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.deleteDoc(ctx, namedKey(kindUser, name))
}

// ListUsers lists users by name.
func (s *Store) ListUsers(ctx context.Context) ([]User, error) {
	us, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindUser), ListOptions{}, docReader[User])
	return us, err
}

// APIToken is a token that a script uses. Only the hash of its secret is kept.
type APIToken struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Owner     string     `json:"owner"`
	Role      string     `json:"role"`
	Scopes    []DagScope `json:"scopes,omitempty"`
	Hash      []byte     `json:"hash"` // SHA-256 of the secret, which has 256 bits of chance
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at,omitzero"` // zero: never
	LastUsed  time.Time  `json:"last_used,omitzero"`  // to the hour
}

func apiTokenIndex(t APIToken) map[kv.IndexName]kv.Key { return listed(kindAPIToken, joinKey(t.ID)) }

// CreateAPIToken stores a new API token, or ErrAlreadyExists.
func (s *Store) CreateAPIToken(ctx context.Context, t APIToken) error {
	return s.createDoc(ctx, namedKey(kindAPIToken, t.ID), t, apiTokenIndex(t))
}

// GetAPIToken returns an API token, or ErrNotFound.
func (s *Store) GetAPIToken(ctx context.Context, id string) (APIToken, error) {
	var t APIToken
	_, err := s.getDoc(ctx, namedKey(kindAPIToken, id), &t)
	return t, err
}

// UpdateAPIToken changes an API token; one that is gone stays gone: ErrNotFound.
func (s *Store) UpdateAPIToken(ctx context.Context, id string, change func(*APIToken) error) (APIToken, error) {
	return update(ctx, s, namedKey(kindAPIToken, id), apiTokenIndex, change)
}

// DeleteAPIToken removes an API token, or ErrNotFound.
func (s *Store) DeleteAPIToken(ctx context.Context, id string) error {
	return s.deleteDoc(ctx, namedKey(kindAPIToken, id))
}

// ListAPITokens lists API tokens by id.
func (s *Store) ListAPITokens(ctx context.Context) ([]APIToken, error) {
	ts, _, err := listIndex(ctx, s, kv.GSI1, allOf(kindAPIToken), ListOptions{}, docReader[APIToken])
	return ts, err
}

// SigningKey signs tokens until it is retired and verifies them as long as those
// that it signed live.
type SigningKey struct {
	KeyID     string    `json:"kid"`
	Secret    []byte    `json:"secret"`
	CreatedAt time.Time `json:"created_at"`
	RetiredAt time.Time `json:"retired_at,omitzero"`
}

// SigningKeys returns the keys that sign tokens, newest first; ErrNotFound before
// the first UpdateSigningKeys.
func (s *Store) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	return getSealed[[]SigningKey](ctx, s, kindAuthKeys, "jwt")
}

// UpdateSigningKeys replaces the keys by what change makes of them (nil when there
// are none yet) and returns the result. change may be called several times.
func (s *Store) UpdateSigningKeys(ctx context.Context, change func([]SigningKey) ([]SigningKey, error)) ([]SigningKey, error) {
	key := namedKey(kindAuthKeys, "jwt")
	for range UpdateAttempts {
		var have []SigningKey
		cond := kv.NotExists()
		it, err := s.kv.Get(ctx, key, true)
		switch {
		case errors.Is(err, kv.ErrNotFound):
		case err != nil:
			return nil, translate(err)
		default:
			if err := s.open(it, &have); err != nil {
				return nil, err
			}
			cond = kv.Eq(attrDoc, it.Attrs[attrDoc])
		}
		next, err := change(have)
		if err != nil {
			return nil, err
		}
		sealed, err := s.seal(key, next)
		if err != nil {
			return nil, err
		}
		err = s.kv.Write(ctx, kv.Put(entity(key, sealed, listed(kindAuthKeys, "jwt")), cond))
		if err == nil {
			if k, ok := s.sealer.(keyAge); ok && !k.Current(sealed) {
				err = s.reseal(ctx, key) // a rotation of the installation key has passed by
			}
			return next, err
		}
		if !errors.Is(err, kv.ErrConditionFailed) {
			return nil, translate(err)
		}
	}
	return nil, fmt.Errorf("%w: the signing keys are replaced all the time", airflow.ErrConflict)
}

// RevokeToken takes the token with an id back; the record vanishes some time after
// until, when the token has expired.
func (s *Store) RevokeToken(ctx context.Context, jti string, until time.Time) error {
	it := entity(namedKey(kindRevoked, jti), []byte("{}"), nil)
	it.ExpiresAt = until.Unix() + 1
	return translate(s.kv.Write(ctx, kv.Put(it, kv.Cond{})))
}

// UserOfToken reads a user, and whether the token with an id was taken back, in one
// round trip: what every request of a signed-in user needs. ErrNotFound: no such user.
func (s *Store) UserOfToken(ctx context.Context, name, jti string) (u User, revoked bool, err error) {
	uk, rk := namedKey(kindUser, name), namedKey(kindRevoked, jti)
	items, err := s.kv.BatchGet(ctx, []kv.Key{uk, rk}, true)
	if err != nil {
		return u, false, translate(err)
	}
	_, revoked = items[rk]
	it, ok := items[uk]
	if !ok {
		return u, revoked, fmt.Errorf("%w: user %s", airflow.ErrNotFound, name)
	}
	return u, revoked, decode(it, &u)
}

func signInKey(window time.Time, who []string) kv.Key {
	return namedKey(kindSignIn, joinKey(append(who, sortableTime(window))...))
}

// CountSignIn counts an attempt of who (account, source …) to sign in within the
// window that starts at window and lasts length. It returns false, and counts
// nothing, when limit attempts were counted before. Attempts at the same moment, in
// any number of processes, never pass the limit together.
func (s *Store) CountSignIn(ctx context.Context, window time.Time, length time.Duration, limit int64, who ...string) (bool, error) {
	op := kv.Update(signInKey(window, who), kv.Or(kv.Missing(attrAttempts), kv.Lt(attrAttempts, kv.Int(limit))),
		kv.Assign(attrFormat, kv.Int(FormatVersion)), kv.Add(attrAttempts, 1)).WithExpiry(window.Add(length).Unix() + 1)
	err := s.kv.Write(ctx, op)
	if errors.Is(err, kv.ErrConditionFailed) {
		return false, nil
	}
	return err == nil, translate(err)
}

// UncountSignIn takes one counted attempt back: it succeeded. Forgotten windows stay forgotten.
func (s *Store) UncountSignIn(ctx context.Context, window time.Time, who ...string) error {
	err := s.kv.Write(ctx, kv.Update(signInKey(window, who), kv.Gt(attrAttempts, kv.Int(0)), kv.Add(attrAttempts, -1)))
	if errors.Is(err, kv.ErrConditionFailed) {
		return nil
	}
	return translate(err)
}

// ForgetSignIns forgets the counted attempts of a window; none is fine.
func (s *Store) ForgetSignIns(ctx context.Context, window time.Time, who ...string) error {
	return translate(s.kv.Write(ctx, kv.Delete(signInKey(window, who), kv.Cond{})))
}
