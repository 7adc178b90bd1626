package main

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// servers are those of all tests.
var servers *park

func TestMain(m *testing.M) {
	if runChild() { // the tests' binary is what etcd and the lines run in
		return
	}
	flag.Parse()
	var err error
	if servers, err = openPark(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	servers.close()
	os.Exit(code)
}
