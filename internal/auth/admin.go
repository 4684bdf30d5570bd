package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
)

// FirstAdmin is the name of the user that an installation begins with.
const FirstAdmin = "admin"

// AdminPasswordEnv sets the password of FirstAdmin where people start servers by
// hand or by script. In Lambda, where whoever may read the function's configuration
// would read it, it is refused: there a secret holds the password.
const AdminPasswordEnv = "GUST_ADMIN_PASSWORD"

// NewPassword returns a password for a person to type: 20 letters and digits
// without those that look alike, some 115 bits of chance.
func NewPassword() string {
	const letters = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
	out := make([]byte, 0, 20)
	for b := make([]byte, 1); len(out) < 20; {
		_, _ = rand.Read(b)
		if n := int(b[0]); n < 256/len(letters)*len(letters) { // every letter as likely
			out = append(out, letters[n%len(letters)])
		}
	}
	return string(out)
}

// FirstPassword returns the password of FirstAdmin in a deployment, which follows
// from the secret that its keys are derived from: a secret of its own would cost
// $0.40 a month for a password that counts once. Nothing about the secret or the
// keys follows from the password. It must never change: deployments are waiting
// for their first sign-in.
func FirstPassword(secret string) (string, error) {
	secret = strings.TrimSpace(secret)
	if len(secret) < 32 {
		return "", errors.New("the secret is too short: expected the text of the deployment's key secret, 64 characters")
	}
	b, err := hkdf.Key(sha256.New, []byte(secret), []byte("gust/auth"), "first admin's password, version 1", 15)
	if err != nil {
		return "", fmt.Errorf("the first admin's password: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(b)), nil
}

// HasUsers reports whether anybody may sign in.
func (s *Service) HasUsers(ctx context.Context) (bool, error) {
	us, err := s.store.ListUsers(ctx)
	return len(us) > 0, err
}

// CreateFirstAdmin makes FirstAdmin with role Admin and a password, unless there
// are users: then it does nothing and returns false. Of several at the same moment
// one makes it.
func (s *Service) CreateFirstAdmin(ctx context.Context, password string) (created bool, err error) {
	if some, err := s.HasUsers(ctx); err != nil || some {
		return false, err
	}
	_, err = s.CreateUser(ctx, NewUser{Username: FirstAdmin, Password: password, Role: Admin})
	if errors.Is(err, airflow.ErrAlreadyExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("first admin: %w", err)
	}
	s.Audit(ctx, "user_create", FirstAdmin, "", map[string]string{"username": FirstAdmin, "role": string(Admin), "how": "first start"})
	return true, nil
}

// ApplyAdminPassword gives FirstAdmin the password that AdminPasswordEnv sets,
// making the user where there are none yet. Sessions survive a password that has
// not changed.
func (s *Service) ApplyAdminPassword(ctx context.Context, password string) error {
	if err := checkPassword(FirstAdmin, password); err != nil {
		return fmt.Errorf("%s: %w", AdminPasswordEnv, err)
	}
	u, err := s.store.GetUser(ctx, FirstAdmin)
	if errors.Is(err, airflow.ErrNotFound) {
		_, err = s.CreateFirstAdmin(ctx, password)
		return err
	}
	if err != nil || u.Provider != "" {
		return err
	}
	same, _, err := s.passwordMatches(ctx, u.PasswordHash, password)
	if err != nil || same {
		return err
	}
	if err := s.SetPassword(ctx, FirstAdmin, password); err != nil {
		return err
	}
	s.Audit(ctx, "user_reset_password", FirstAdmin, "", map[string]string{"username": FirstAdmin, "how": AdminPasswordEnv})
	return nil
}

// adoptFirstAdmin makes FirstAdmin with the password of a deployment, when that user signs in and there are no users at all: so no function
// reads the secret to start.
func (s *Service) adoptFirstAdmin(ctx context.Context, username string) (store.User, error) {
	if s.o.FirstAdminPassword == nil || username != FirstAdmin {
		return store.User{}, airflow.ErrNotFound
	}
	if some, err := s.HasUsers(ctx); err != nil || some {
		return store.User{}, errors.Join(err, airflow.ErrNotFound)
	}
	password, err := s.o.FirstAdminPassword(ctx)
	if err != nil {
		return store.User{}, fmt.Errorf("the first admin's password: %w", err)
	}
	if _, err := s.CreateFirstAdmin(ctx, strings.TrimSpace(password)); err != nil {
		return store.User{}, err
	}
	return s.store.GetUser(ctx, FirstAdmin)
}
