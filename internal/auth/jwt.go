package auth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// signing is the one algorithm that is signed with and that is taken. Issuer and
// verifier are the same installation, so that a shared key suffices; its length is
// that of the hash (RFC 7518, 3.2).
var signing = jwt.SigningMethodHS512

const signingKeyBytes = 64

// keyCacheLife is how long keys are used without asking whether they were rotated.
// Another process may sign with a retired key for that long.
const keyCacheLife = time.Minute

// maxTokenBytes is more than any token of ours has; longer ones are not looked at.
const maxTokenBytes = 4 << 10

// claims are those of RFC 7519 and the generation of the user's tokens. Role and
// scopes are not in it: they are read with every request.
type claims struct {
	jwt.RegisteredClaims
	Kind       Kind   `json:"kind"`
	Generation string `json:"gen"`
}

// randomText returns n random bytes as URL-safe text.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program if it cannot
	return base64.RawURLEncoding.EncodeToString(b)
}

func newSigningKey(now time.Time) store.SigningKey {
	secret := make([]byte, signingKeyBytes)
	_, _ = rand.Read(secret)
	kid := make([]byte, 8)
	_, _ = rand.Read(kid)
	return store.SigningKey{KeyID: hex.EncodeToString(kid), Secret: secret, CreatedAt: now}
}

// alive is how long after its retirement a key verifies: until the last token that
// it signed has expired.
func (s *Service) alive() time.Duration {
	return max(s.o.TokenLife, s.o.CLITokenLife) + keyCacheLife + s.o.Leeway
}

// signingKeys returns the keys, newest first. Those in the cache do unless they are
// old or, with a kid, lack that key; an unknown kid makes it ask at most once a
// second, so that forged tokens do not load the store.
func (s *Service) signingKeys(ctx context.Context, kid string) ([]store.SigningKey, error) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	now := s.now()
	age := now.Sub(s.keysRead)
	fresh := len(s.keys) > 0 && age >= 0 && age < keyCacheLife
	if fresh && (kid == "" || age < time.Second || keyNamed(s.keys, kid) != nil) {
		return s.keys, nil
	}
	keys, err := s.store.SigningKeys(ctx)
	if errors.Is(err, airflow.ErrNotFound) {
		keys, err = s.store.UpdateSigningKeys(ctx, func(have []store.SigningKey) ([]store.SigningKey, error) {
			if len(have) > 0 {
				return have, nil // another process was faster
			}
			return []store.SigningKey{newSigningKey(now)}, nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("keys that sign tokens: %w", err)
	}
	s.keys, s.keysRead = keys, now
	return keys, nil
}

func keyNamed(keys []store.SigningKey, kid string) *store.SigningKey {
	for i := range keys {
		if keys[i].KeyID == kid {
			return &keys[i]
		}
	}
	return nil
}

// RotateKeys makes a new key that signs tokens from now on. Tokens signed with the
// old one stay good until they expire: nobody is logged out. Keys that no living
// token can need are removed. It returns the new key's id and how many keys verify.
func (s *Service) RotateKeys(ctx context.Context) (kid string, verifying int, err error) {
	now := s.now()
	fresh := newSigningKey(now)
	keys, err := s.store.UpdateSigningKeys(ctx, func(have []store.SigningKey) ([]store.SigningKey, error) {
		next := []store.SigningKey{fresh}
		for _, k := range have {
			if k.RetiredAt.IsZero() {
				k.RetiredAt = now
			}
			if now.Before(k.RetiredAt.Add(s.alive())) {
				next = append(next, k)
			}
		}
		return next, nil
	})
	if err != nil {
		return "", 0, err
	}
	s.keyMu.Lock()
	s.keys, s.keysRead = keys, now
	s.keyMu.Unlock()
	return fresh.KeyID, len(keys), nil
}

// RevokeAllTokens replaces all keys: every session and token of POST /auth/token
// ends at once. API tokens stay.
func (s *Service) RevokeAllTokens(ctx context.Context) (kid string, err error) {
	now := s.now()
	fresh := newSigningKey(now)
	keys, err := s.store.UpdateSigningKeys(ctx, func([]store.SigningKey) ([]store.SigningKey, error) {
		return []store.SigningKey{fresh}, nil
	})
	if err != nil {
		return "", err
	}
	s.keyMu.Lock()
	s.keys, s.keysRead = keys, now
	s.keyMu.Unlock()
	return fresh.KeyID, nil
}

// issue signs a token for a user.
func (s *Service) issue(ctx context.Context, u store.User, kind Kind) (token string, expires time.Time, err error) {
	keys, err := s.signingKeys(ctx, "")
	if err != nil {
		return "", expires, err
	}
	life := s.o.TokenLife
	if kind == KindCLI {
		life = s.o.CLITokenLife
	}
	now := s.now().Truncate(time.Second)
	expires = now.Add(life)
	t := jwt.NewWithClaims(signing, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.o.Issuer, Subject: u.Username, Audience: jwt.ClaimStrings{s.o.Audience}, ID: randomText(16),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires),
		},
		Kind: kind, Generation: u.Generation,
	})
	t.Header["kid"] = keys[0].KeyID
	token, err = t.SignedString(keys[0].Secret)
	return token, expires, err
}

// errToken is why a token is refused. Callers are told no more than that it is.
var errToken = errors.New("the token is not valid")

// verify checks everything about a token that the token itself and the keys say.
func (s *Service) verify(ctx context.Context, token string) (claims, error) {
	var c claims
	if len(token) > maxTokenBytes {
		return c, fmt.Errorf("%w: too long", errToken)
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{signing.Alg()}), jwt.WithIssuer(s.o.Issuer), jwt.WithAudience(s.o.Audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(s.o.Leeway), jwt.WithTimeFunc(s.now), jwt.WithStrictDecoding())
	var trouble error // of the store: not the caller's fault
	_, err := parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		if kid == "" {
			return nil, errors.New("no kid")
		}
		keys, err := s.signingKeys(ctx, kid)
		if err != nil {
			trouble = err
			return nil, err
		}
		k := keyNamed(keys, kid)
		if k == nil || !k.RetiredAt.IsZero() && s.now().After(k.RetiredAt.Add(s.alive())) {
			return nil, errors.New("unknown kid")
		}
		return k.Secret, nil
	})
	switch {
	case trouble != nil:
		return c, trouble
	case err != nil:
		return c, fmt.Errorf("%w: %w", errToken, err)
	case c.Subject == "" || c.ID == "" || c.NotBefore == nil || c.IssuedAt == nil || c.Generation == "":
		return c, fmt.Errorf("%w: a claim is missing", errToken)
	case c.Kind != KindUser && c.Kind != KindCLI:
		return c, fmt.Errorf("%w: kind %q", errToken, c.Kind)
	}
	return c, nil
}

// identify turns a verified token into who asks.
func (s *Service) identify(ctx context.Context, token string) (Identity, error) {
	c, err := s.verify(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	u, revoked, err := s.store.UserOfToken(ctx, c.Subject, c.ID)
	switch {
	case errors.Is(err, airflow.ErrNotFound):
		return Identity{}, fmt.Errorf("%w: its user is gone", errToken)
	case err != nil:
		return Identity{}, err
	case revoked:
		return Identity{}, fmt.Errorf("%w: it was taken back", errToken)
	case u.Disabled:
		return Identity{}, fmt.Errorf("%w: its user is disabled", errToken)
	case u.Generation != c.Generation:
		return Identity{}, fmt.Errorf("%w: the user's password has changed since", errToken)
	}
	id := identityOf(u, c.Kind)
	id.jti, id.expires = c.ID, c.ExpiresAt.Time
	return id, nil
}

func identityOf(u store.User, kind Kind) Identity {
	return Identity{Name: u.Username, Role: Role(u.Role), Kind: kind, scopes: scopesOf(u.Scopes, Role(u.Role))}
}

// revoke takes the token of an identity back.
func (s *Service) revoke(ctx context.Context, id Identity) error {
	if id.jti == "" {
		return nil
	}
	return s.store.RevokeToken(ctx, id.jti, id.expires.Add(s.o.Leeway))
}
