// main.cpp: a program that uses the installed library through its one header.
#include <iostream>
#include <mainspring.hpp>

int main(int argc, char** argv) {
  std::cout << "mainspring " << ms::version() << '\n';
  if (argc < 2) return 0;
  ms::Model model = ms::Model::load({.model = argv[1]});
  const auto show = [](std::string_view text) { return bool(std::cout << text << std::flush); };
  return model.generate("Once upon a time", {.max_tokens = 16, .ignore_eos = true}, show)
             .tokens.size() != 16;
}
