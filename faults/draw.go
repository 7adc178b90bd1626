package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/ctxlock/ctxlock/faults/history"
)

// draw writes the picture of a history.
func draw(h *history.History, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	err = h.Picture(w)
	if e := w.Flush(); err == nil {
		err = e
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

// redraw draws a history that was kept.
func redraw(path string) error {
	h, err := history.Load(path)
	if err != nil {
		return err
	}
	picture := strings.TrimSuffix(path, ".json") + ".svg"
	if err := draw(h, picture); err != nil {
		return err
	}
	fmt.Println(picture)
	return nil
}
