package proc

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// User is a system user whom children can run as.
type User struct {
	Name, Home string
	UID, GID   uint32
	Groups     []uint32
}

// Become returns the user a child must be started as to run as name; nil if this
// process is that user. It fails where the user does not exist or this process,
// not being root, cannot become somebody else.
func Become(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("run_as_user %q: there is no such user on this machine", name)
	}
	if u.Uid == strconv.Itoa(os.Geteuid()) {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		me := strconv.Itoa(os.Geteuid())
		if cur, err := user.Current(); err == nil {
			me = cur.Username
		}
		return nil, fmt.Errorf("run_as_user %q: this server runs as %s and only root can run tasks as another user: start it as root, or as %s, or remove run_as_user", name, me, name)
	}
	out := &User{Name: u.Username, Home: u.HomeDir}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("run_as_user %q: its ids %s and %s are no numbers", name, u.Uid, u.Gid)
	}
	out.UID, out.GID = uint32(uid), uint32(gid)
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("run_as_user %q: its groups: %w", name, err)
	}
	for _, g := range groups {
		if n, err := strconv.ParseUint(g, 10, 32); err == nil {
			out.Groups = append(out.Groups, uint32(n))
		}
	}
	return out, nil
}

// Environ is env with the variables that say who one is, as `sudo -E -H` sets them.
func (u *User) Environ(env []string) []string {
	out := make([]string, 0, len(env)+3)
	for _, kv := range env {
		switch k, _, _ := strings.Cut(kv, "="); k {
		case "HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME":
		default:
			out = append(out, kv)
		}
	}
	return append(out, "HOME="+u.Home, "USER="+u.Name, "LOGNAME="+u.Name)
}

// Own gives a file or folder that a task works on to the user; a nil User changes nothing.
func (u *User) Own(path string) error {
	if u == nil {
		return nil
	}
	if err := os.Chown(path, int(u.UID), int(u.GID)); err != nil {
		return fmt.Errorf("give %s to %s: %w", path, u.Name, err)
	}
	return nil
}

// may reports whether the user has the permission bit (4 read, 1 search) on what st describes.
func (u *User) may(st fs.FileInfo, bit fs.FileMode) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	switch {
	case sys.Uid == u.UID:
		bit <<= 6
	case sys.Gid == u.GID || contains(u.Groups, sys.Gid):
		bit <<= 3
	}
	return st.Mode().Perm()&bit != 0
}

func contains(gs []uint32, g uint32) bool {
	for _, x := range gs {
		if x == g {
			return true
		}
	}
	return false
}

// LookPath finds a program that the user can run: like exec.LookPath, past what is
// closed to the user.
func (u *User) LookPath(name string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		p := filepath.Join(dir, name)
		real, err := filepath.EvalSymlinks(p)
		if err != nil || !filepath.IsAbs(p) || !u.CanRead(filepath.Dir(real)) {
			continue
		}
		if st, err := os.Stat(real); err == nil && st.Mode().IsRegular() && u.may(st, 1) {
			return p, nil
		}
	}
	return "", fmt.Errorf("no %s in PATH that user %s can run: %w", name, u.Name, exec.ErrNotFound)
}

// CanRead reports whether the user can read a folder and find what is in it.
func (u *User) CanRead(dir string) bool {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	bit := fs.FileMode(5)
	for {
		st, err := os.Stat(real)
		if err != nil || !u.may(st, 1) || bit&4 != 0 && !u.may(st, 4) {
			return false
		}
		parent := filepath.Dir(real)
		if parent == real {
			return true
		}
		real, bit = parent, 1
	}
}
