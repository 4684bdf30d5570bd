// Package crash holds TestKill9: it kills the real server with SIGKILL at random
// moments, many times, and checks what came of the runs that it had accepted.
// The simulation (package sim) reaches every point of the code; this test shows
// that the real process, file system and child processes keep what it assumes.
package crash
