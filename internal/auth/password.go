package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// argonParams are the costs of a password's hash. 19 MiB and two passes are OWASP's
// least for Argon2id: about 25 ms of a whole core, 100 ms of the third of a core
// that a function with 512 MB has. A hash carries its own costs, so that these can
// be raised: a password is hashed again when its owner signs in.
type argonParams struct {
	memory  uint32 // KiB
	time    uint32
	threads uint8
}

var passwordCost = argonParams{19 << 10, 2, 1}

const (
	saltBytes = 16
	hashBytes = 32
	// maxHashes bounds what a flood of sign-ins can take: 4 × 19 MiB, 4 cores.
	maxHashes = 4
)

// Bounds on a password's length; NIST SP 800-63B asks for at least 8, and a bound
// keeps hashing cheap.
const (
	minPassword = 8
	maxPassword = 1024 // bytes
)

// checkPassword says what is wrong with a new password.
func checkPassword(username, password string) error {
	switch {
	case !utf8.ValidString(password):
		return errors.New("password: expected UTF-8 text")
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Errorf("password: expected at least %d characters", minPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("password: expected at most %d bytes", maxPassword)
	case strings.EqualFold(username, password):
		return errors.New("password: expected something else than the user's name")
	}
	return nil
}

// argon waits for a free place and hashes.
func (s *Service) argon(ctx context.Context, password string, salt []byte, p argonParams, length uint32) ([]byte, error) {
	select {
	case s.hashing <- struct{}{}:
		defer func() { <-s.hashing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, p.time, p.memory, p.threads, length), nil
}

// hashPassword returns the hash in PHC string format.
func (s *Service) hashPassword(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt)
	sum, err := s.argon(ctx, password, salt, passwordCost, hashBytes)
	if err != nil {
		return "", err
	}
	return formatHash(passwordCost, salt, sum), nil
}

func formatHash(p argonParams, salt, sum []byte) string {
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.threads, e.EncodeToString(salt), e.EncodeToString(sum))
}

// parseHash reads what formatHash wrote, within bounds that no hash of ours passes.
func parseHash(phc string) (p argonParams, salt, sum []byte, err error) {
	bad := errors.New("a stored password hash cannot be read")
	parts := strings.Split(phc, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, nil, nil, bad
	}
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil || n != 3 {
		return p, nil, nil, bad
	}
	if p.memory == 0 || p.memory > 1<<20 || p.time == 0 || p.time > 64 || p.threads == 0 {
		return p, nil, nil, bad
	}
	e := base64.RawStdEncoding
	if salt, err = e.DecodeString(parts[4]); err == nil {
		sum, err = e.DecodeString(parts[5])
	}
	if err != nil || len(salt) < 8 || len(sum) < 16 || len(sum) > 128 {
		return p, nil, nil, bad
	}
	return p, salt, sum, nil
}

// passwordMatches compares in a time that does not depend on where they differ.
// stale says that the hash should be made again with today's costs.
func (s *Service) passwordMatches(ctx context.Context, phc, password string) (ok, stale bool, err error) {
	known := phc != ""
	if !known { // the answer takes as long
		phc = formatHash(passwordCost, make([]byte, saltBytes), make([]byte, hashBytes))
	}
	p, salt, sum, err := parseHash(phc)
	if err != nil {
		return false, false, err
	}
	got, err := s.argon(ctx, password, salt, p, uint32(len(sum)))
	if err != nil {
		return false, false, err
	}
	return subtle.ConstantTimeCompare(got, sum) == 1 && known, p != passwordCost, nil
}
