package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// An API token is gust_<id>_<secret>: an id to find it by, 256 bits of chance, and
// a beginning by which scanners for leaked secrets know it.
const apiTokenPrefix = "gust_"

const apiTokenSecretBytes = 32

// lastUsedEvery bounds the writes that using a token costs.
const lastUsedEvery = time.Hour

// NewAPIToken says which API token to make.
type NewAPIToken struct {
	Owner string
	Name  string // what it is for
	Role  Role   // "" = the owner's; at most that
	// Scopes narrow the token to some DAGs; none: those of its owner.
	Scopes []store.DagScope
	Life   time.Duration // 0 = until it is revoked
}

// CreateAPIToken makes an API token. The token itself is returned this once; only
// its hash is kept. It never has more rights than its owner has at the time of use.
func (s *Service) CreateAPIToken(ctx context.Context, n NewAPIToken) (string, store.APIToken, error) {
	none := store.APIToken{}
	owner, err := s.store.GetUser(ctx, n.Owner)
	if err != nil {
		return "", none, unknownUser(err, n.Owner)
	}
	if n.Role == "" {
		n.Role = Role(owner.Role)
	}
	var problems []error
	if !Role(owner.Role).Includes(n.Role) {
		problems = append(problems, fmt.Errorf("role %s: expected at most the owner's, %s", n.Role, owner.Role))
	}
	if n.Name == "" || len(n.Name) > 250 {
		problems = append(problems, errors.New("name: expected 1 to 250 characters that say what the token is for"))
	}
	if n.Life < 0 {
		problems = append(problems, errors.New("expiry: expected a time in the future"))
	}
	problems = append(problems, checkScopes(n.Scopes))
	if err := errors.Join(problems...); err != nil {
		return "", none, err
	}
	id, secret := make([]byte, 8), make([]byte, apiTokenSecretBytes)
	_, _ = rand.Read(id)
	_, _ = rand.Read(secret)
	text := hex.EncodeToString(secret)
	sum := sha256.Sum256([]byte(text))
	t := store.APIToken{ID: hex.EncodeToString(id), Name: n.Name, Owner: n.Owner, Role: string(n.Role), Scopes: n.Scopes, Hash: sum[:], CreatedAt: s.now()}
	if n.Life > 0 {
		t.ExpiresAt = t.CreatedAt.Add(n.Life)
	}
	if err := s.store.CreateAPIToken(ctx, t); err != nil {
		return "", none, err
	}
	return apiTokenPrefix + t.ID + "_" + text, t, nil
}

// APITokens lists the API tokens of an owner ("" = all), oldest first.
func (s *Service) APITokens(ctx context.Context, owner string) ([]store.APIToken, error) {
	all, err := s.store.ListAPITokens(ctx)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(t store.APIToken) bool { return owner != "" && t.Owner != owner })
	slices.SortFunc(all, func(a, b store.APIToken) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, nil
}

// RevokeAPIToken takes an API token back at once, or airflow.ErrNotFound.
func (s *Service) RevokeAPIToken(ctx context.Context, id string) error {
	return s.store.DeleteAPIToken(ctx, id)
}

func (s *Service) identifyAPIToken(ctx context.Context, token string) (Identity, error) {
	none := Identity{}
	id, secret, ok := strings.Cut(strings.TrimPrefix(token, apiTokenPrefix), "_")
	if !ok || len(id) != 16 || len(secret) != 2*apiTokenSecretBytes {
		return none, fmt.Errorf("%w: not the form of an API token", errToken)
	}
	t, err := s.store.GetAPIToken(ctx, id)
	if errors.Is(err, airflow.ErrNotFound) {
		return none, fmt.Errorf("%w: an unknown or revoked API token", errToken)
	}
	if err != nil {
		return none, err
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], t.Hash) != 1 {
		return none, fmt.Errorf("%w: wrong secret of API token %s", errToken, id)
	}
	now := s.now()
	if !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) {
		return none, fmt.Errorf("%w: API token %s has expired", errToken, id)
	}
	u, err := s.store.GetUser(ctx, t.Owner)
	if errors.Is(err, airflow.ErrNotFound) || err == nil && (u.Disabled || u.CreatedAt.After(t.CreatedAt)) {
		return none, fmt.Errorf("%w: the owner of API token %s is gone or disabled", errToken, id)
	}
	if err != nil {
		return none, err
	}
	if now.Sub(t.LastUsed) >= lastUsedEvery {
		// A token is good whether or not its use could be noted.
		if _, err := s.store.UpdateAPIToken(ctx, id, func(t *store.APIToken) error { t.LastUsed = now.Truncate(lastUsedEvery); return nil }); err != nil {
			s.log.Warn("the use of an API token was not noted", "token", id, "err", err)
		}
	}
	who := identityOf(u, KindAPI)
	who.TokenName = t.Name
	who.ceiling = &ceiling{Role(t.Role), scopesOf(t.Scopes, Role(t.Role))}
	return who, nil
}
