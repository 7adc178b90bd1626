package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// report writes all files and prints the table.
func (s *suite) report(list []scenario, took time.Duration) error {
	pings, names := s.pings(), make(map[string]string)
	for trip, d := range pings {
		names[trip.String()] = short(d)
	}
	c := conditions{
		Server: s.park.serverName(), Cores: runtime.GOMAXPROCS(0), CPU: processor(), Go: runtime.Version(), Date: time.Now().UTC().Format(time.DateOnly),
		Disk: disk(s.park.etcdDir), Rounds: s.rounds, Took: took.Round(time.Second).String(), Pings: names,
	}
	verdicts := judgeAll(s.results, pings)
	var table bytes.Buffer
	writeTable(&table, c, list, s.results, verdicts)
	encoded, err := json.MarshalIndent(map[string]any{"conditions": c, "results": s.results}, "", "  ")
	if err != nil {
		return err
	}
	files := map[string][]byte{"results.md": table.Bytes(), "results.json": append(encoded, '\n')}
	for name, chart := range charts(c, s.results, pings) {
		files[name] = chart
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(*out, name), content, 0o644); err != nil {
			return err
		}
	}
	_, err = os.Stdout.Write(table.Bytes())
	return err
}

// pings measures the lines that were used, since a timer of half a millisecond takes longer than that.
func (s *suite) pings() map[time.Duration]time.Duration {
	pings := make(map[time.Duration]time.Duration)
	for trip, line := range s.park.lines {
		if d, err := ping(line.addresses[0]); err == nil {
			pings[trip] = d
		}
	}
	return pings
}

// ping is the median round trip to a server.
func ping(address string) (time.Duration, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	replies := bufio.NewReader(conn)
	var took []float64
	for range 25 {
		start := time.Now()
		if _, err := fmt.Fprint(conn, "*1\r\n$4\r\nPING\r\n"); err != nil {
			return 0, err
		}
		if _, err := replies.ReadString('\n'); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(start)))
	}
	return time.Duration(median(took)), nil
}

// processor is the processor's name, where the system tells.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// disk is the kind of file system that a folder is on, where the system tells.
func disk(dir string) string {
	text, _ := os.ReadFile("/proc/mounts")
	best, kind := "", "a file system that the system does not name"
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 2 && strings.HasPrefix(dir, strings.TrimSuffix(f[1], "/")+"/") && len(f[1]) >= len(best) {
			best, kind = f[1], f[2]+", in the folder for temporary files"
		}
	}
	return kind
}
