package workerhost

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// NewIdentity is that of this process on a host; "" is this machine's name. Its
// PID is a number of its own for each start: a sandbox or container may run
// another process with the same name and process id after a crash, which must not
// pass for this one, because a claim may be repeated by its claimant.
func NewIdentity(hostname string) worker.Identity {
	id := taskrunner.Self()
	if hostname != "" {
		id.Hostname = hostname
	}
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // the system has no randomness
	}
	id.PID = int(binary.BigEndian.Uint32(b[:]) >> 1)
	return id
}
