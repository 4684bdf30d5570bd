package localapp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/gustflow/gust/internal/auth"
)

// NewAuth returns who may sign in to this home, by Options.Auth.
func (a *App) NewAuth() (*auth.Service, error) {
	o := a.Options.Auth
	o.Store = a.Store
	if o.BaseURL == "" {
		o.BaseURL = a.Options.BaseURL
	}
	if o.Log == nil {
		o.Log = a.log
	}
	return auth.New(o)
}

// AdminPasswordFile holds the password that was generated for the first admin, for
// its owner's eyes (0600). It may be deleted once the password is known elsewhere.
func (h Home) AdminPasswordFile() string { return h.path("admin-password") }

// FirstSignIn tells with what an installation can first be signed in to.
type FirstSignIn struct {
	Username string
	// File holds the generated password; "" where GUST_ADMIN_PASSWORD set it.
	File, Password string
}

// FirstAdmin makes sure that somebody can sign in: with the password given
// (GUST_ADMIN_PASSWORD), which then is the admin's, or with a generated one when
// there are no users yet. It returns nil where nothing had to be made.
//
// A generated password is in its file before the user exists, so that no crash can
// lose it.
func (a *App) FirstAdmin(ctx context.Context, s *auth.Service, given string) (*FirstSignIn, error) {
	if given != "" {
		return nil, s.ApplyAdminPassword(ctx, given)
	}
	if some, err := s.HasUsers(ctx); err != nil || some {
		return nil, err
	}
	file := a.Home.AdminPasswordFile()
	password, err := passwordFile(file)
	if err != nil {
		return nil, fmt.Errorf("password of the first admin: %w", err)
	}
	created, err := s.CreateFirstAdmin(ctx, password)
	if err != nil || !created {
		return nil, err
	}
	return &FirstSignIn{auth.FirstAdmin, file, password}, nil
}

// signedIn is the server's handler behind sign-in, with somebody who can sign in.
func (a *App) signedIn(ctx context.Context, so ServeOptions) (http.Handler, error) {
	s, err := a.NewAuth()
	if err != nil {
		return nil, err
	}
	first, err := a.FirstAdmin(ctx, s, so.AdminPassword)
	if err != nil {
		return nil, err
	}
	if first != nil && so.SignIn != nil {
		so.SignIn(*first)
	}
	a.Auth = s
	h, err := a.handler()
	if err != nil {
		return nil, err
	}
	return s.Handler(h), nil
}

// passwordFile writes a new password to a file, or returns the one that a start
// that went wrong has left there.
func passwordFile(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if p := strings.TrimSpace(string(b)); p != "" {
			return p, os.Chmod(path, 0o600)
		}
		if err := os.Remove(path); err != nil { // empty: the disk was full
			return "", err
		}
		return passwordFile(path)
	}
	if err != nil {
		return "", err
	}
	p := auth.NewPassword()
	_, err = f.WriteString(p + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return p, nil
}
