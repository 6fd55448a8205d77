// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
)

const hashed = "-pbkdf2-"

// settings are CouchDB's: what files say, the last one first, and what was told over HTTP, which goes to the last file.
type settings struct {
	mutex sync.Mutex
	file  string
	own   map[string]map[string]string
	given map[string]map[string]string
}

func readSettings(folders ...string) *settings {
	result := &settings{file: filepath.Join(folders[len(folders)-1], "cluster-credentials.ini"), given: map[string]map[string]string{}}
	for _, folder := range folders {
		names, _ := filepath.Glob(filepath.Join(folder, "*.ini"))
		sort.Strings(names)
		for _, name := range names {
			if name == result.file {
				continue
			}
			for section, values := range readIni(name) {
				for key, value := range values {
					put(result.given, section, key, value)
				}
			}
		}
	}
	result.own = readIni(result.file)
	return result
}

func readIni(name string) map[string]map[string]string {
	result := map[string]map[string]string{}
	file, err := os.Open(name)
	if err != nil {
		return result
	}
	defer file.Close()
	section := ""
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.Trim(line, "[]")
		} else if key, value, found := strings.Cut(line, "="); found && !strings.HasPrefix(line, ";") {
			put(result, section, strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
	return result
}

func put(values map[string]map[string]string, section, key, value string) {
	if values[section] == nil {
		values[section] = map[string]string{}
	}
	values[section][key] = value
}

func (s *settings) get(section, key string) (string, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if value, found := s.own[section][key]; found {
		return value, true
	}
	value, found := s.given[section][key]
	return value, found
}

func (s *settings) section(section string) map[string]string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	result := map[string]string{}
	for _, values := range []map[string]string{s.given[section], s.own[section]} {
		for key, value := range values {
			result[key] = value
		}
	}
	return result
}

// seed sets what is not there yet.
func (s *settings) seed(section, key, value string) {
	if _, found := s.get(section, key); !found && value != "" {
		s.set(section, key, value)
	}
}

func (s *settings) set(section, key, value string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	put(s.own, section, key, value)
	s.write()
}

func (s *settings) remove(section, key string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.own[section], key)
	s.write()
}

func (s *settings) write() {
	text := &strings.Builder{}
	for _, section := range names(s.own) {
		fmt.Fprintf(text, "[%s]\n", section)
		for _, key := range names(s.own[section]) {
			fmt.Fprintf(text, "%s = %s\n", key, s.own[section][key])
		}
	}
	replace(s.file, []byte(text.String()))
}

// hashPasswords does with an administrator's password what CouchDB does when it starts.
func (s *settings) hashPasswords() {
	for name, value := range s.section("admins") {
		if !strings.HasPrefix(value, hashed) {
			s.set("admins", name, hash(value))
		}
	}
}

func hash(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	text := hex.EncodeToString(salt)
	return hashed + derive(password, text) + "," + text + ",10"
}

func derive(password, salt string) string {
	key, _ := pbkdf2.Key(sha1.New, password, []byte(salt), 10, 20)
	return hex.EncodeToString(key)
}

func matches(password, kept string) bool {
	parts := strings.Split(strings.TrimPrefix(kept, hashed), ",")
	return len(parts) == 3 && subtle.ConstantTimeCompare([]byte(derive(password, parts[1])), []byte(parts[0])) == 1
}

// replace writes a file in one step: a process that is killed leaves the old or the new one.
func replace(name string, data []byte) {
	part := name + ".part"
	if err := os.WriteFile(part, data, 0o600); err != nil {
		fail("%s", err)
	}
	if err := os.Rename(part, name); err != nil {
		fail("%s", err)
	}
}

func names[V any](values map[string]V) []string {
	result := make([]string, 0, len(values))
	for name := range values {
		result = append(result, name)
	}
	sort.Strings(result)
	return result
}
