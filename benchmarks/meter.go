package main

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// reading is what has been used up to a moment.
type reading struct {
	at        time.Time
	client    time.Duration // CPU of this process
	server    time.Duration // CPU of the servers
	commands  int64         // that the Valkey servers ran, those in scripts included; 0 for etcd
	mallocs   uint64
	questions int64 // commands that readings have cost so far
}

// meter reads what one contender uses. Contenders run one after another, so whatever is used is theirs.
type meter struct {
	servers []*lab.Server // that the contender uses
	etcd    *child        // or this, if not nil
	asked   int64
}

// meterOf meters what a contender uses.
func (p *park) meterOf(who Contender) *meter {
	switch {
	case who.Library == consensus().Library:
		return &meter{etcd: p.etcd}
	case who.AllServers:
		return &meter{servers: p.servers}
	}
	return &meter{servers: p.servers[:1]}
}

func (m *meter) read() reading {
	r := reading{at: time.Now(), questions: m.asked, client: processTime()}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	r.mallocs = stats.Mallocs
	if m.etcd != nil {
		r.server = childTime(m.etcd.cmd.Process.Pid)
		return r
	}
	for _, s := range m.servers {
		info, err := s.Info("")
		if err != nil {
			continue
		}
		m.asked++ // its answer does not count itself, the next one will
		n, _ := strconv.ParseInt(info["total_commands_processed"], 10, 64)
		r.commands += n
		r.server += seconds(info["used_cpu_user"]) + seconds(info["used_cpu_sys"])
	}
	return r
}

func seconds(s string) time.Duration {
	f, _ := strconv.ParseFloat(s, 64)
	return time.Duration(f * float64(time.Second))
}

// usage is what was used between two readings.
type usage struct {
	time, client, server time.Duration
	commands             float64 // NaN: there is no such thing
	mallocs              float64
}

func (m *meter) between(from, to reading) usage {
	u := usage{
		time: to.at.Sub(from.at), client: to.client - from.client, server: to.server - from.server,
		commands: float64(to.commands - from.commands - (to.questions - from.questions)),
		mallocs:  float64(to.mallocs - from.mallocs),
	}
	if m.etcd != nil {
		u.commands = math.NaN()
	}
	return u
}

func (u *usage) add(other usage) {
	u.time += other.time
	u.client += other.client
	u.server += other.server
	u.commands += other.commands
	u.mallocs += other.mallocs
}

// processTime is the CPU time that this process has used.
func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// childTime is the CPU time that a child has used, in steps of 10 ms; 0 where there is no /proc.
func childTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the name in parentheses, which may hold anything; the twelfth and thirteenth after it are what counts.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
