// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Shards of a database and copies of each shard, as CHT's CouchDB has them.
const shardCount = 12

// rangeOf is the shard that a document belongs to.
func rangeOf(id string) string {
	number := int(uint64(crc32.ChecksumIEEE([]byte(id))) * shardCount >> 32)
	return ranges()[number]
}

func ranges() []string {
	result := make([]string, shardCount)
	for number := range uint64(shardCount) {
		begin, end := (number<<32+shardCount-1)/shardCount, ((number+1)<<32+shardCount-1)/shardCount-1
		result[number] = fmt.Sprintf("%08x-%08x", begin, end)
	}
	return result
}

type document struct {
	ID      string          `json:"id"`
	Rev     string          `json:"rev"`
	Deleted bool            `json:"deleted,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
}

// shard is one file: a line that says which node made it, then a line for each change.
type shard struct {
	file      *os.File
	documents map[string]document
	changes   int
}

// store holds the shards on one node's volume. What is not there when it is asked for is made, empty: so does CouchDB, whosever volume it is.
type store struct {
	mutex  sync.Mutex
	folder string
	node   string
	open   map[string]*shard
}

func (s *store) shard(name string) *shard {
	if found := s.open[name]; found != nil {
		return found
	}
	path := filepath.Join(s.folder, "shards", filepath.FromSlash(name)+".couch")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		fail("%s", err)
	}
	result := &shard{documents: map[string]document{}}
	kept, end := result.load(path)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		fail("%s", err)
	}
	// A line that was written half goes.
	_ = file.Truncate(end)
	_, _ = file.Seek(end, 0)
	result.file = file
	if !kept {
		result.write(map[string]string{"shard": name, "node": s.node})
	}
	s.open[name] = result
	return result
}

func (s *shard) load(path string) (bool, int64) {
	file, err := os.Open(path)
	if err != nil {
		return false, 0
	}
	defer file.Close()
	var end int64
	for lines, number := bufio.NewReader(file), 0; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return end > 0, end
		}
		var found document
		if number > 0 && json.Unmarshal(line, &found) == nil {
			s.documents[found.ID] = found
			s.changes++
		}
		end += int64(len(line))
	}
}

func (s *shard) write(line any) {
	text, _ := json.Marshal(line)
	if _, err := s.file.Write(append(text, '\n')); err != nil {
		fail("%s", err)
	}
}

func (s *store) get(name, id string) (document, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	found, there := s.shard(name).documents[id]
	return found, there
}

// put keeps a new revision, unless the one that it follows is not the last one.
func (s *store) put(name string, change document) (document, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	target := s.shard(name)
	last, there := target.documents[change.ID]
	if there && !last.Deleted && last.Rev != change.Rev || change.Rev != "" && (!there || last.Rev != change.Rev) {
		return last, false
	}
	number, _, _ := strings.Cut(last.Rev, "-")
	count, _ := strconv.Atoi(number)
	sum := md5.Sum(append([]byte(last.Rev), change.Body...))
	change.Rev = fmt.Sprintf("%d-%s", count+1, hex.EncodeToString(sum[:]))
	target.write(change)
	target.documents[change.ID] = change
	target.changes++
	return change, true
}

func (s *store) all(name string) []document {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	target := s.shard(name)
	result := make([]document, 0, len(target.documents))
	for _, id := range names(target.documents) {
		result = append(result, target.documents[id])
	}
	return result
}

func (s *store) remove(name string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if found := s.open[name]; found != nil {
		_ = found.file.Close()
		delete(s.open, name)
	}
	_ = os.Remove(filepath.Join(s.folder, "shards", filepath.FromSlash(name)+".couch"))
}
