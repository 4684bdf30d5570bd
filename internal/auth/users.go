package auth

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// NewUser says which user to make.
type NewUser struct {
	Username, Password         string
	Role                       Role
	Email, FirstName, LastName string
	Scopes                     []store.DagScope
}

func unknownUser(err error, name string) error {
	if errors.Is(err, airflow.ErrNotFound) {
		return fmt.Errorf("user %q: %w", name, airflow.ErrNotFound)
	}
	return err
}

// checkUsername allows what can be typed and shown: 1 to 250 characters, no
// control characters, no space at the ends.
func checkUsername(name string) error {
	bad := name == "" || len(name) > 250 || !utf8.ValidString(name) || strings.TrimSpace(name) != name
	for _, r := range name {
		bad = bad || !unicode.IsPrint(r)
	}
	if bad {
		return fmt.Errorf("user name %q: expected 1 to 250 printable characters without space around them", name)
	}
	return nil
}

func checkScopes(scopes []store.DagScope) error {
	var problems []error
	for _, d := range scopes {
		if d.DagID == "" && d.Tag == "" {
			problems = append(problems, errors.New("DAG scope: expected a pattern for the DAG id or for a tag; * is every DAG"))
		}
		if d.Role != "" && Role(d.Role).rank() < 0 {
			problems = append(problems, fmt.Errorf("DAG scope: role %q: expected Viewer, User, Op or Admin", d.Role))
		}
	}
	return errors.Join(problems...)
}

// CreateUser makes a local user, or airflow.ErrAlreadyExists.
func (s *Service) CreateUser(ctx context.Context, n NewUser) (store.User, error) {
	problems := []error{checkUsername(n.Username), checkPassword(n.Username, n.Password), checkScopes(n.Scopes)}
	if n.Role.rank() < 0 {
		problems = append(problems, fmt.Errorf("role %q: expected Viewer, User, Op or Admin", n.Role))
	}
	if n.Email != "" {
		if a, err := mail.ParseAddress(n.Email); err != nil || a.Address != n.Email {
			problems = append(problems, fmt.Errorf("email %q: expected an address such as jo@example.com", n.Email))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return store.User{}, err
	}
	hash, err := s.hashPassword(ctx, n.Password)
	if err != nil {
		return store.User{}, err
	}
	u := store.User{
		Username: n.Username, Role: string(n.Role), Email: n.Email, FirstName: n.FirstName, LastName: n.LastName, PasswordHash: hash,
		Scopes: n.Scopes, Generation: randomText(12), CreatedAt: s.now(),
	}
	if err := s.store.CreateUser(ctx, u); err != nil {
		if errors.Is(err, airflow.ErrAlreadyExists) {
			return store.User{}, fmt.Errorf("user %q: %w", n.Username, airflow.ErrAlreadyExists)
		}
		return store.User{}, err
	}
	return u, nil
}

// Users lists the users by name.
func (s *Service) Users(ctx context.Context) ([]store.User, error) { return s.store.ListUsers(ctx) }

// errLastAdmin guards against locking everybody out.
var errLastAdmin = fmt.Errorf("%w: it is the last Admin; make another one first", airflow.ErrNotAllowed)

// keepsAdmin refuses to go on when name is the only Admin who can sign in.
func (s *Service) keepsAdmin(ctx context.Context, name string) error {
	us, err := s.store.ListUsers(ctx)
	if err != nil {
		return err
	}
	was, others := false, false
	for _, u := range us {
		if Role(u.Role) == Admin && !u.Disabled {
			was = was || u.Username == name
			others = others || u.Username != name
		}
	}
	if was && !others {
		return fmt.Errorf("user %q: %w", name, errLastAdmin)
	}
	return nil
}

// DeleteUser removes a user; sessions and tokens end at once. The last Admin stays.
func (s *Service) DeleteUser(ctx context.Context, name string) error {
	if err := s.keepsAdmin(ctx, name); err != nil {
		return err
	}
	if err := s.store.DeleteUser(ctx, name); err != nil {
		return unknownUser(err, name)
	}
	tokens, err := s.APITokens(ctx, name)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if err := s.store.DeleteAPIToken(ctx, t.ID); err != nil && !errors.Is(err, airflow.ErrNotFound) {
			return err
		}
	}
	return nil
}

// SetPassword gives a user another password; sessions and tokens issued before end.
// API tokens stay: they have secrets of their own.
func (s *Service) SetPassword(ctx context.Context, name, password string) error {
	if err := checkPassword(name, password); err != nil {
		return err
	}
	hash, err := s.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	_, err = s.store.UpdateUser(ctx, name, func(u *store.User) error {
		if u.Provider != "" {
			return fmt.Errorf("%w: %s signs in with %s", airflow.ErrNotAllowed, name, u.Provider)
		}
		u.PasswordHash, u.Generation = hash, randomText(12)
		return nil
	})
	return unknownUser(err, name)
}

// SetRole gives a user another role; it counts from the next request on.
func (s *Service) SetRole(ctx context.Context, name string, role Role) error {
	if role.rank() < 0 {
		return fmt.Errorf("role %q: expected Viewer, User, Op or Admin", role)
	}
	if role != Admin {
		if err := s.keepsAdmin(ctx, name); err != nil {
			return err
		}
	}
	_, err := s.store.UpdateUser(ctx, name, func(u *store.User) error { u.Role = string(role); return nil })
	return unknownUser(err, name)
}

// SetScopes says on which DAGs the user has which role; none: the user's role on all.
func (s *Service) SetScopes(ctx context.Context, name string, scopes []store.DagScope) error {
	if err := checkScopes(scopes); err != nil {
		return err
	}
	_, err := s.store.UpdateUser(ctx, name, func(u *store.User) error { u.Scopes = scopes; return nil })
	return unknownUser(err, name)
}

// SetDisabled keeps a user out, or lets them in again with new sessions.
func (s *Service) SetDisabled(ctx context.Context, name string, disabled bool) error {
	if disabled {
		if err := s.keepsAdmin(ctx, name); err != nil {
			return err
		}
	}
	_, err := s.store.UpdateUser(ctx, name, func(u *store.User) error {
		u.Disabled, u.Generation = disabled, randomText(12)
		return nil
	})
	return unknownUser(err, name)
}

// ParseScope reads a scope as people write it: dag:PATTERN or tag:PATTERN, with
// =ROLE behind for a role that is not the user's.
func ParseScope(text string) (store.DagScope, error) {
	d := store.DagScope{}
	what, role, _ := strings.Cut(text, "=")
	if role != "" {
		r, err := ParseRole(role)
		if err != nil {
			return d, fmt.Errorf("DAG scope %q: %w", text, err)
		}
		d.Role = string(r)
	}
	kind, pattern, _ := strings.Cut(what, ":")
	switch {
	case pattern != "" && kind == "dag":
		d.DagID = pattern
	case pattern != "" && kind == "tag":
		d.Tag = pattern
	default:
		return d, fmt.Errorf("DAG scope %q: expected dag:PATTERN or tag:PATTERN, with =ROLE behind it for another role, such as tag:team-a=User", text)
	}
	return d, nil
}

// FormatScope is the inverse of ParseScope.
func FormatScope(d store.DagScope) string {
	out := "dag:" + d.DagID
	if d.Tag != "" {
		out = "tag:" + d.Tag
	}
	if d.Role != "" {
		out += "=" + d.Role
	}
	return out
}
