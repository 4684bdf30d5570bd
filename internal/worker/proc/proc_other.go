//go:build unix && !linux

package proc

import "syscall"

func sysProcAttr(syscall.Signal) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func oomKills() int64 { return 0 }

func scan(installation string) ([]Orphan, error) { return scanPS(installation) }

func stat(pid int) (pgid int, started string, err error) { return statPS(pid) }

func leads(o Orphan) bool { return o.PID == o.PGID }

// marked cannot look into other processes here.
func marked(string) []int { return nil }
